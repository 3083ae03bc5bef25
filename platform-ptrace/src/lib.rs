//! Runs guest code in traced host processes.
