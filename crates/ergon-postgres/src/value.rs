//! Values as Postgres keeps them: instants, packs and offsets, small numbers.

use ergon_core::{
    StoreError, TaskId,
    time::{from_micros, to_micros},
};
use jiff::Timestamp;
use sqlx::{
    Decode, Encode, Postgres, Row as _, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueRef, types::Oid},
};
use uuid::Uuid;

use crate::error::corrupt;

/// Microseconds from 1970 to 2000, where Postgres begins to count.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The year 1: the earliest instant that is kept. A task due before it is due then.
const EARLIEST_MICROS: i64 = -62_135_596_800_000_000;

/// An instant as a `timestamptz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant(pub(crate) Timestamp);

/// Microseconds since 1970, as they are written into JSON.
pub(crate) fn micros(instant: Timestamp) -> i64 {
    std::cmp::max(to_micros(instant), EARLIEST_MICROS)
}

impl Type<Postgres> for Instant {
    fn type_info() -> PgTypeInfo {
        // The fixed number of `timestamptz`.
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for Instant {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Instant {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<'_, Postgres>>::encode(micros(self.0) - EPOCH_MICROS, buffer)
    }
}

impl Decode<'_, Postgres> for Instant {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        // Statements with arguments answer in the binary format, and all of ours have some.
        let micros = <i64 as Decode<'_, Postgres>>::decode(value)?;
        Ok(Self(from_micros(micros.saturating_add(EPOCH_MICROS))))
    }
}

/// The id of a pack and the offset in it, as they are stored.
pub(crate) fn split(id: TaskId) -> (Uuid, i16) {
    (Uuid::from_u128(id.pack().as_u128()), offset(id.offset()))
}

/// An offset as it is stored: it has 12 bits.
pub(crate) fn offset(offset: u16) -> i16 {
    i16::try_from(offset).unwrap_or(i16::MAX)
}

/// The id of a task, by its pack and offset.
pub(crate) fn task_id(pack: Uuid, offset: i16) -> Result<TaskId, StoreError> {
    let offset = small(offset)?;
    let pack = TaskId::from_u128(pack.as_u128()).map_err(|error| corrupt(error.to_string()))?;
    Ok(pack.with_offset(offset))
}

/// A number that was stored as it is, in a type that is as wide or wider.
pub(crate) fn small<T: TryFrom<N>, N: Copy + std::fmt::Display>(
    number: N,
) -> Result<T, StoreError> {
    T::try_from(number).map_err(|_out_of_range| corrupt(format!("number {number} is out of range")))
}

/// Reads a column by its name.
pub(crate) fn column<'r, T>(row: &'r PgRow, name: &str) -> Result<T, StoreError>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(name).map_err(|error| corrupt(format!("column {name}: {error}")))
}

/// Reads a column by its place, without comparing types: for the statements of the hot path.
pub(crate) fn place<'r, T>(row: &'r PgRow, place: usize) -> Result<T, StoreError>
where
    T: Decode<'r, Postgres>,
{
    row.try_get_unchecked(place).map_err(|error| corrupt(format!("column {place}: {error}")))
}

/// Reads an instant that may be missing.
pub(crate) fn instant(row: &PgRow, name: &str) -> Result<Option<Timestamp>, StoreError> {
    Ok(column::<Option<Instant>>(row, name)?.map(|instant| instant.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_split() {
        let id = TaskId::from_parts(1_704_067_200_000, 0x1234_5678_9abc, 4095);
        let (pack, offset) = split(id);
        assert_eq!(task_id(pack, offset).unwrap(), id);
        assert!(task_id(pack, -1).is_err());
        assert!(task_id(Uuid::nil(), 0).is_err());
    }

    #[test]
    fn instants_before_the_year_1_are_that_of_the_year_1() {
        assert_eq!(micros(Timestamp::MIN), EARLIEST_MICROS);
        assert_eq!(from_micros(EARLIEST_MICROS).to_string(), "0001-01-01T00:00:00Z");
    }
}
