//! Calls on memory.
