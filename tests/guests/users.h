// Becoming another user, with or without capabilities.
#ifndef USERS_H
#define USERS_H
#include "check.h"
#include <grp.h>
#include <linux/capability.h>

#define CAP(name) (1ull << CAP_##name)

__attribute__((unused)) static void set_capabilities(uint64_t wanted) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{wanted, wanted, 0}, {wanted >> 32, wanted >> 32, 0}};
    MUST(syscall(SYS_capset, &header, data));
}

// Becomes this user and group for good, keeping nothing.
__attribute__((unused)) static void become(uid_t uid, gid_t gid) {
    MUST(setgroups(0, NULL));
    MUST(setresgid(gid, gid, gid));
    MUST(setresuid(uid, uid, uid));
    umask(0);
}

// Becomes this user with some capabilities left.
__attribute__((unused)) static void become_with(uid_t uid, gid_t gid, uint64_t capabilities) {
    MUST(prctl(PR_SET_KEEPCAPS, 1));
    become(uid, gid);
    set_capabilities(capabilities);
}

#endif
