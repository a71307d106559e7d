//! The bytes of a retry policy.

use ergon_core::{Jitter, RetryPolicy, StoreError};

use super::{Decoder, Encoder, JITTERS, corrupt, numbered};

pub(super) fn encode(out: &mut Encoder, policy: &RetryPolicy) {
    match policy {
        RetryPolicy::Exponential { base, cap, jitter } => {
            out.u8(0);
            out.duration(*base);
            out.duration(*cap);
            out.u8(match jitter {
                Jitter::Full => 0,
                Jitter::None => 1,
            });
        }
        RetryPolicy::Fixed(delay) => {
            out.u8(1);
            out.duration(*delay);
        }
        RetryPolicy::List(steps) => {
            out.u8(2);
            out.u8(u8::try_from(steps.len()).unwrap_or(u8::MAX));
            steps.iter().for_each(|&step| out.duration(step));
        }
    }
}

pub(super) fn decode(fields: &mut Decoder<'_>) -> Result<RetryPolicy, StoreError> {
    match fields.u8()? {
        0 => Ok(RetryPolicy::Exponential {
            base: fields.duration()?,
            cap: fields.duration()?,
            jitter: numbered(&JITTERS, fields.u8()?)?,
        }),
        1 => Ok(RetryPolicy::Fixed(fields.duration()?)),
        2 => (0..fields.u8()?)
            .map(|_| fields.duration())
            .collect::<Result<_, _>>()
            .map(RetryPolicy::List),
        tag => Err(corrupt(format!("unknown retry policy {tag}"))),
    }
}
