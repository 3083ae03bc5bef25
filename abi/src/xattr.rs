//! Extended attributes.

/// The attribute that holds a program's capabilities (see capabilities(7)).
pub const XATTR_CAPABILITY: &[u8] = b"security.capability";

/// The attribute that holds a file's POSIX access control list (see acl(5)).
pub const XATTR_ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The access control list that entries of a directory get.
pub const XATTR_ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

flags! {
    /// The flags of `setxattr`.
    pub struct XattrFlags: u32 {
        XATTR_CREATE = 0x1,
        XATTR_REPLACE = 0x2,
    }
}

consts! { usize:
    /// The longest name, in bytes.
    XATTR_NAME_MAX = 255,
    /// The longest value, in bytes.
    XATTR_SIZE_MAX = 65536,
    /// The longest list of names, in bytes.
    XATTR_LIST_MAX = 65536,
}
