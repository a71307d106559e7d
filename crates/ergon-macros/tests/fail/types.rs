//! Types that cannot be tasks.

use ergon_core::Task;
use serde::Serialize;

#[derive(Serialize, Task)]
struct Borrowed<'a> {
    to: &'a str,
}

#[derive(Task)]
union Union {
    number: u64,
}

fn main() {}
