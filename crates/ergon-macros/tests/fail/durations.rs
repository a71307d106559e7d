//! Durations that say nothing, or too much.

use ergon_core::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(timeout = "30", delay = "1h30m", retention = "3661d")]
struct Texts;

#[derive(Serialize, Deserialize, Task)]
#[task(timeout = "0s")]
struct Zero;

#[derive(Serialize, Deserialize, Task)]
#[task(timeout = 30)]
struct Number;

fn main() {}
