//! Options that do not exist, stand twice or stand in the wrong place.

use ergon_core::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(que = "mail")]
struct Unknown;

#[derive(Serialize, Deserialize, Task)]
#[task(deadline = "5s")]
struct Instant;

#[derive(Serialize, Deserialize, Task)]
#[task(queue = "a", queue = "b", tags("x", "x"))]
struct Twice;

#[derive(Serialize, Deserialize, Task)]
#[task]
struct Bare;

#[derive(Serialize, Deserialize, Task)]
struct OnField {
    #[task(queue = "mail")]
    to: String,
}

#[derive(Serialize, Deserialize, Task)]
enum OnVariant {
    #[task(queue = "mail")]
    Mail,
}

fn main() {}
