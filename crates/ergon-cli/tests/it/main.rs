//! The command as people run it.

#[cfg(test)]
mod monitor;
