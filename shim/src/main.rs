//! One small process per container.

mod cgroup;
mod oom;

fn main() {}
