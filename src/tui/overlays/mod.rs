//! What opens above a view: the help, the list of threads, the choice of workers.

pub mod help;
pub mod threads;
pub mod workers;
