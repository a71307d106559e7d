//! Tests of the runtime, on the memory store and, where time matters, on a paused clock.

#[cfg(test)]
mod ahead;
#[cfg(test)]
mod attempts;
#[cfg(test)]
mod building;
#[cfg(test)]
mod context;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod events;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod operating;
#[cfg(test)]
mod panics;
#[cfg(test)]
mod presence;
#[cfg(test)]
mod queues;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod signals;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod statistics;
#[cfg(test)]
mod support;
