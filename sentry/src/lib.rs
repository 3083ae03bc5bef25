//! The kernel: tasks, memory, files, signals, time, sockets and the system call table.
#![forbid(unsafe_code)]
