//! Names, labels and integers out of range.

use ergon_core::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "send email", queue = "", tag = "a\n", metadata("" = "x", "ergon.x" = "y"))]
struct Names;

#[derive(Serialize, Deserialize, Task)]
#[task(max_attempts = 0, priority = 32_768)]
struct Integers;

#[derive(Serialize, Deserialize, Task)]
#[task(max_attempts = -1, priority = 5u8)]
struct Signs;

#[derive(Serialize, Deserialize, Task)]
#[task(max_attempts = "8")]
struct Text;

#[derive(Serialize, Deserialize, Task)]
#[task(kind = KIND)]
struct Constant;

#[derive(Serialize, Deserialize, Task)]
struct Größe;

fn main() {}
