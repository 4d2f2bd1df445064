//! Writing a cabinet ([MS-CAB]), without compression: cabextract refuses what the library's compression makes of repetitive
//! files, and the dashboard takes either.

use std::io::{Cursor, Write};

use cab::{CabinetBuilder, CompressionType};
use time::{Date, PrimitiveDateTime, Time};

use super::File;
use crate::{Error, ErrorKind, ProvenanceError};

/// Most bytes of all files: 65,535 blocks of 32 KiB in the one folder of the format.
const MAX_SIZE: u64 = 65_535 << 15;

/// Years that the format can express.
const YEARS: std::ops::RangeInclusive<i32> = 1980..=2107;

/// The cabinet, with the files in their order. Each has this date, at midnight.
pub(super) fn write(files: &[File], date: Date) -> Result<Vec<u8>, Error> {
    let size: u64 = files.iter().map(|file| file.contents.len() as u64).sum();
    if size > MAX_SIZE {
        return Err(
            ProvenanceError::Package(format!("its files have {size} bytes; a cabinet holds {MAX_SIZE}")).into(),
        );
    }
    if !YEARS.contains(&date.year()) {
        let (first, last) = (YEARS.start(), YEARS.end());
        return Err(ProvenanceError::Package(format!("files of a cabinet have dates from {first} to {last}")).into());
    }
    let mut builder = CabinetBuilder::new();
    let folder = builder.add_folder(CompressionType::None);
    for file in files {
        folder
            .add_file(file.path.as_str())
            .set_datetime(PrimitiveDateTime::new(date, Time::MIDNIGHT));
    }
    let fill = || -> std::io::Result<Vec<u8>> {
        let mut writer = builder.build(Cursor::new(Vec::new()))?;
        for file in files {
            let mut target = writer
                .next_file()?
                .ok_or_else(|| std::io::Error::other("the cabinet has too few files"))?;
            target.write_all(&file.contents)?;
        }
        Ok(writer.finish()?.into_inner())
    };
    Ok(fill().map_err(|e| ErrorKind::Internal(format!("the cabinet can't be written: {e}")))?)
}
