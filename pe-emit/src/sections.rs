//! Which sections an image has: the caller's in the caller's order, then those of the linker's own tables.
//!
//! The linker's read-only tables go to the end of `.rdata`, where Microsoft's linker has them too, so that they cost no
//! page and no 512-byte unit of the file of their own. Growing `.rdata` disturbs nobody: its readers go by address. Every
//! other section keeps its exact size, which readers of `maps` and `programs` count by (native module contract §5.2).
//! `.rdata` is added after the caller's sections if the caller has none.

use std::collections::BTreeSet;

use object::pe::{
    IMAGE_SCN_CNT_CODE, IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_DISCARDABLE, IMAGE_SCN_MEM_EXECUTE,
    IMAGE_SCN_MEM_READ, IMAGE_SCN_MEM_WRITE, SectionFlags,
};

use crate::address::SECTION_ALIGNMENT;
use crate::base_relocations::{self, BaseRelocations};
use crate::debug::{self, DebugDirectory};
use crate::error::{LinkError, SectionProblem};
use crate::exports::{self, ExportTable};
use crate::functions::{self, FunctionTable};
use crate::image_kind::ImageKind;
use crate::imports::{self, ImportTables};
use crate::layout::{Part, PartPlan, SectionPlan};
use crate::native_object::{Section, SectionIndex, SectionKind};
use crate::resources::{self, Resources};

/// What the Windows loader takes at most (PE format, "COFF File Header").
const SECTIONS_MAX: usize = 96;

pub(crate) const READ_ONLY_TABLES: &str = ".rdata";
pub(crate) const FUNCTION_TABLE: &str = ".pdata";
const RESOURCES: &str = ".rsrc";
const BASE_RELOCATIONS: &str = ".reloc";

/// Names that the PE format gives to tables that only a linker can write ("Special Sections").
const RESERVED: [&str; 7] = [
    ".edata",
    ".idata",
    FUNCTION_TABLE,
    BASE_RELOCATIONS,
    RESOURCES,
    ".tls",
    ".xdata",
];

/// The kernel goes by the first four characters.
const PAGEABLE: [&str; 2] = ["PAGE", "INIT"];

/// Checks the names, alignments and sizes of the caller's sections.
pub(crate) fn check(sections: &[Section]) -> Result<(), LinkError> {
    let mut names = BTreeSet::new();
    for section in sections {
        check_section(section, &mut names).map_err(|problem| LinkError::Section {
            name: section.name.clone(),
            problem,
        })?;
    }
    Ok(())
}

fn check_section<'a>(section: &'a Section, names: &mut BTreeSet<&'a str>) -> Result<(), SectionProblem> {
    let name = section.name.as_str();
    if name.contains('\0') {
        return Err(SectionProblem::NameNul);
    }
    if header_name(name).is_none() {
        return Err(SectionProblem::NameLength);
    }
    if name.starts_with('/') {
        return Err(SectionProblem::NameSlash);
    }
    if PAGEABLE.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(SectionProblem::NamePageable);
    }
    if RESERVED.contains(&name) {
        return Err(SectionProblem::NameReserved);
    }
    if !names.insert(name) {
        return Err(SectionProblem::Duplicate);
    }
    if name == READ_ONLY_TABLES && section.kind != SectionKind::ReadOnlyData {
        return Err(SectionProblem::NotReadOnly);
    }
    if section.data.is_empty() {
        return Err(SectionProblem::Empty);
    }
    if !section.align.is_power_of_two() || section.align > SECTION_ALIGNMENT {
        return Err(SectionProblem::Alignment { align: section.align });
    }
    Ok(())
}

/// The name as the section header has it, padded with NULs.
pub(crate) fn header_name(name: &str) -> Option<[u8; 8]> {
    let mut field = [0; 8];
    let bytes = name.as_bytes();
    field
        .get_mut(..bytes.len())
        .filter(|place| !place.is_empty())?
        .copy_from_slice(bytes);
    Some(field)
}

/// The linker's own tables. An empty one takes no place.
pub(crate) struct Tables<'a> {
    pub imports: ImportTables<'a>,
    pub exports: ExportTable<'a>,
    pub debug: DebugDirectory,
    pub functions: FunctionTable,
    pub resources: Resources,
    pub base_relocations: BaseRelocations,
}

/// The sections of the image in order. The caller's have passed [`check`].
pub(crate) fn plan(kind: ImageKind, sections: &[Section], tables: &Tables<'_>) -> Result<Vec<SectionPlan>, LinkError> {
    let data = IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ;
    let read_only = data | kind.section_flags();
    let code = IMAGE_SCN_CNT_CODE | kind.section_flags() | IMAGE_SCN_MEM_EXECUTE | IMAGE_SCN_MEM_READ;
    let Tables {
        imports,
        exports,
        debug,
        functions,
        resources,
        base_relocations,
    } = tables;

    let mut plans = Vec::with_capacity(sections.len() + 4);
    for (index, section) in sections.iter().enumerate() {
        let flags = match section.kind {
            SectionKind::Code => code,
            SectionKind::ReadOnlyData => read_only,
            SectionKind::Data => read_only | IMAGE_SCN_MEM_WRITE,
        };
        let part = Part::Contents(SectionIndex(index as u32));
        add(
            &mut plans,
            &section.name,
            flags,
            vec![PartPlan {
                part,
                align: section.align,
                size: section.data.len(),
            }],
        );
    }
    let appended = vec![
        PartPlan {
            part: Part::Imports,
            align: imports::ALIGN,
            size: imports.size(),
        },
        PartPlan {
            part: Part::Exports,
            align: exports::ALIGN,
            size: exports.size(),
        },
        PartPlan {
            part: Part::Debug,
            align: debug::ALIGN,
            size: debug.size(),
        },
        PartPlan {
            part: Part::UnwindRecords,
            align: functions::ALIGN,
            size: functions.records().len(),
        },
    ];
    match sections.iter().position(|section| section.name == READ_ONLY_TABLES) {
        Some(index) => plans[index]
            .parts
            .extend(appended.into_iter().filter(|part| part.size != 0)),
        None => add(&mut plans, READ_ONLY_TABLES, read_only, appended),
    }
    let part = PartPlan {
        part: Part::FunctionTable,
        align: functions::ALIGN,
        size: functions.size(),
    };
    add(&mut plans, FUNCTION_TABLE, read_only, vec![part]);
    let part = PartPlan {
        part: Part::Resources,
        align: resources::ALIGN,
        size: resources.size(),
    };
    add(&mut plans, RESOURCES, data, vec![part]);
    let (align, size) = (base_relocations::ALIGN, base_relocations.size());
    let part = PartPlan {
        part: Part::BaseRelocations,
        align,
        size,
    };
    add(
        &mut plans,
        BASE_RELOCATIONS,
        data | IMAGE_SCN_MEM_DISCARDABLE,
        vec![part],
    );

    if plans.len() > SECTIONS_MAX {
        return Err(LinkError::TooManySections {
            count: plans.len(),
            generated: plans.len() - sections.len(),
            limit: SECTIONS_MAX,
        });
    }
    Ok(plans)
}

/// Adds a section of the parts that are not empty, if there are any.
fn add(plans: &mut Vec<SectionPlan>, name: &str, flags: SectionFlags, mut parts: Vec<PartPlan>) {
    parts.retain(|part| part.size != 0);
    if let Some(name) = header_name(name).filter(|_| !parts.is_empty()) {
        plans.push(SectionPlan { name, flags, parts });
    }
}
