//! Tests of the bus: on the memory store, and where time matters, on a paused clock.

#[cfg(test)]
mod backfill;
#[cfg(test)]
mod callbacks;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod inline;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod observers;
#[cfg(test)]
mod running;
#[cfg(test)]
mod sinks;
#[cfg(test)]
mod subscriptions;
#[cfg(test)]
mod support;
