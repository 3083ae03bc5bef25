#!/bin/bash
# Perl with forked pipes, sockets, signals and sorting.
cat >p.pl <<'END'
use strict; use warnings; use IO::Handle; use IO::Socket; use POSIX ":sys_wait_h"; use Socket;
my @pids;
for my $n (1 .. 4) {
    pipe(my $r, my $w) or die; my $pid = open(my $child, "-|") // die;
    if (!$pid) { print "child $n: ", $n * $n, "\n"; exit $n }
    print while defined($_ = <$child>); close $child; print "status ", $? >> 8, "\n";
}
open(my $sort, "|-", "sort -n | head -n 3") or die; print $sort "$_\n" for reverse 1 .. 100; close $sort;
socketpair(my $left, my $right, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die;
if (!fork) { close $left; $right->autoflush(1); while (<$right>) { print $right uc } exit 0 }
close $right; $left->autoflush(1);
for my $word (qw(alpha beta)) { print $left "$word\n"; print scalar <$left> } close $left; wait;
my $server = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1", ReuseAddr => 1) or die;
if (!fork) { my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $server->sockport) or die; print $c "over tcp\n"; exit 0 }
my $connection = $server->accept; print scalar <$connection>; wait;
my $hits = 0; $SIG{USR1} = sub { $hits++ }; kill USR1 => $$; print "hits $hits\n";
local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select undef, undef, undef, 30 }; print $@;
my $out = `echo backquote; exit 5`; print $out, $? >> 8, "\n";
my $pid = fork // die; if (!$pid) { sleep 100; exit } kill TERM => $pid; waitpid $pid, 0; print "signal ", $? & 127, "\n";
open my $f, ">", "file" or die; print $f join("\n", map { ($_ * 7919) % 1009 } 1 .. 500), "\n"; close $f;
open $f, "<", "file" or die; my @n = sort { $a <=> $b } <$f>; print scalar(@n), " ", $n[0], $n[-1]; 
print join(",", map { -e $_ ? 1 : 0 } "file", "none"), " ", -s "file", "\n"; unlink "file";
END
perl p.pl; echo "status $?"
