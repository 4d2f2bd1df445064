//! The load configuration: which protections the image takes part in, and where Windows finds what it needs for them.
//!
//! ```text
//! function table   an RVA for each function that may be called by its address, ascending
//! directory        one structure                                              (data directory 10)
//! ```
//! (PE format, "The Load Configuration Structure" and "Control Flow Guard"; `IMAGE_LOAD_CONFIG_DIRECTORY64` of the SDK.)
//!
//! Given: an object that says what it takes part in. Computed: the same object with both tables as constants of its own,
//! whose fields are relocations like all others, so that one piece of code fills in addresses.
//! Safe because: what is claimed is checked. The pointers are there and lead to code; a target is the start of a function; and
//! no address of a function stands in data that is not in the table, because the kernel stops the machine at a call of one.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::mem::{offset_of, size_of};

use object::pe::{IMAGE_GUARD_CF_FUNCTION_TABLE_PRESENT, IMAGE_GUARD_CF_INSTRUMENTED, ImageLoadConfigDirectory64};

use crate::error::{LinkError, LoadConfigProblem};
use crate::native_object::{
    Guard, LoadConfig, Machine, NativeObject, Relocation, RelocationKind, Section, SectionIndex, SectionKind, Symbol,
    SymbolIndex, SymbolPlace,
};
use crate::sections::READ_ONLY_TABLES;

/// Windows notes valid targets in units of this many bytes.
const TARGET_ALIGN: u32 = 16;
/// Pointers and the directory are made of 8-byte fields.
const POINTER: u32 = 8;

/// Size of the directory in bytes.
pub(crate) const SIZE: u32 = size_of::<ImageLoadConfigDirectory64>() as u32;

/// A byte of a section.
type Place = (SectionIndex, u32);

/// The object with its load configuration among its constants, and the symbol of that; the object itself if it has none.
pub(crate) fn add(object: &NativeObject) -> Result<(Cow<'_, NativeObject>, Option<SymbolIndex>), LinkError> {
    let Some(config) = &object.load_config else {
        return Ok((Cow::Borrowed(object), None));
    };
    let error = |problem| LinkError::LoadConfig { problem };
    check_cookie(object, config).map_err(error)?;
    let targets = match &config.guard {
        Some(guard) => targets(object, guard).map_err(error)?,
        None => Vec::new(),
    };
    let mut object = object.clone();
    let constants = read_only_section(&mut object);
    let table = append(&mut object, constants, 4, &vec![0; targets.len() * size_of::<u32>()]);
    for (position, symbol) in targets.iter().enumerate() {
        let offset = table + (position * size_of::<u32>()) as u32;
        relocate(&mut object, constants, offset, RelocationKind::ImageRelative32, *symbol);
    }
    let directory = append(
        &mut object,
        constants,
        POINTER as usize,
        &directory(config, targets.len()),
    );
    let table = symbol(&mut object, "guard_function_table", constants, table);
    for (field, target) in fields(config, table) {
        let offset = directory + field as u32;
        relocate(&mut object, constants, offset, RelocationKind::Absolute64, target);
    }
    let directory = symbol(&mut object, "load_config", constants, directory);
    Ok((Cow::Owned(object), Some(directory)))
}

/// The directory, its addresses still 0.
fn directory(config: &LoadConfig, targets: usize) -> [u8; SIZE as usize] {
    let mut bytes = [0; SIZE as usize];
    let mut put = |field: usize, value: &[u8]| bytes[field..field + value.len()].copy_from_slice(value);
    put(offset_of!(ImageLoadConfigDirectory64, size), &SIZE.to_le_bytes());
    if config.guard.is_some() {
        let flags = IMAGE_GUARD_CF_INSTRUMENTED | IMAGE_GUARD_CF_FUNCTION_TABLE_PRESENT;
        let count = targets as u64;
        put(
            offset_of!(ImageLoadConfigDirectory64, guard_cf_function_count),
            &count.to_le_bytes(),
        );
        // The upper four bits, 0, say that the entries of the function table are bare RVAs.
        put(
            offset_of!(ImageLoadConfigDirectory64, guard_flags),
            &flags.0.to_le_bytes(),
        );
    }
    bytes
}

/// The fields of the directory that hold addresses, and whose.
fn fields(config: &LoadConfig, table: SymbolIndex) -> Vec<(usize, SymbolIndex)> {
    let mut fields = vec![(
        offset_of!(ImageLoadConfigDirectory64, security_cookie),
        config.security_cookie,
    )];
    if let Some(guard) = &config.guard {
        let check = offset_of!(ImageLoadConfigDirectory64, guard_cf_check_function_pointer);
        let dispatch = offset_of!(ImageLoadConfigDirectory64, guard_cf_dispatch_function_pointer);
        let functions = offset_of!(ImageLoadConfigDirectory64, guard_cf_function_table);
        fields.push((check, guard.check));
        fields.extend(guard.dispatch.map(|symbol| (dispatch, symbol)));
        fields.push((functions, table));
    }
    fields
}

/// The section for constants, which is made if there is none. Constants are appended to it where the linker appends its own
/// tables.
fn read_only_section(object: &mut NativeObject) -> SectionIndex {
    let position = object.sections.iter().position(|s| s.name == READ_ONLY_TABLES);
    SectionIndex(position.unwrap_or_else(|| {
        object.sections.push(Section {
            name: READ_ONLY_TABLES.to_owned(),
            kind: SectionKind::ReadOnlyData,
            align: POINTER,
            data: Vec::new(),
            relocations: Vec::new(),
        });
        object.sections.len() - 1
    }) as u32)
}

/// Appends bytes to a section and gives their offset.
fn append(object: &mut NativeObject, section: SectionIndex, align: usize, bytes: &[u8]) -> u32 {
    let data = &mut object.sections[section.0 as usize].data;
    data.resize(data.len().next_multiple_of(align), 0);
    // A section beyond 4 GiB is refused by the layout.
    let offset = data.len() as u32;
    data.extend_from_slice(bytes);
    offset
}

fn symbol(object: &mut NativeObject, name: &str, section: SectionIndex, offset: u32) -> SymbolIndex {
    object.symbols.push(Symbol {
        name: name.to_owned(),
        place: SymbolPlace::Section { section, offset },
    });
    SymbolIndex(object.symbols.len() as u32 - 1)
}

fn relocate(object: &mut NativeObject, section: SectionIndex, offset: u32, kind: RelocationKind, symbol: SymbolIndex) {
    object.sections[section.0 as usize].relocations.push(Relocation {
        offset,
        kind,
        symbol,
        addend: 0,
    });
}

/// Where a symbol is, with its name for messages.
fn place(object: &NativeObject, symbol: SymbolIndex) -> Result<(Place, &str), LoadConfigProblem> {
    let unknown = LoadConfigProblem::UnknownSymbol { symbol: symbol.0 };
    let found = object.symbols.get(symbol.0 as usize).ok_or(unknown.clone())?;
    match found.place {
        SymbolPlace::Section { section, offset } => Ok(((section, offset), &found.name)),
        SymbolPlace::ImportSlot { .. } => Err(unknown),
    }
}

/// The 8 bytes at a symbol, which must be aligned and of a section of this kind.
fn pointer(
    object: &NativeObject,
    symbol: SymbolIndex,
    kind: SectionKind,
) -> Result<(Place, [u8; 8]), LoadConfigProblem> {
    let ((section, offset), name) = place(object, symbol)?;
    let bytes = object
        .sections
        .get(section.0 as usize)
        .filter(|section| section.kind == kind && offset.is_multiple_of(POINTER))
        .and_then(|section| section.data.get(offset as usize..)?.first_chunk());
    let bytes = bytes.ok_or_else(|| LoadConfigProblem::Pointer { name: name.to_owned() })?;
    Ok(((section, offset), *bytes))
}

fn check_cookie(object: &NativeObject, config: &LoadConfig) -> Result<(), LoadConfigProblem> {
    let (_, bytes) = pointer(object, config.security_cookie, SectionKind::Data)?;
    if bytes == LoadConfig::COOKIE.to_le_bytes() {
        Ok(())
    } else {
        Err(LoadConfigProblem::Cookie)
    }
}

/// The symbols of the function table in its order, each target once.
fn targets(object: &NativeObject, guard: &Guard) -> Result<Vec<SymbolIndex>, LoadConfigProblem> {
    if guard.dispatch.is_some() && object.machine != Machine::X64 {
        return Err(LoadConfigProblem::NoDispatch);
    }
    let mut pointers = BTreeSet::new();
    for symbol in [Some(guard.check), guard.dispatch].into_iter().flatten() {
        let (place, _) = pointer(object, symbol, SectionKind::ReadOnlyData)?;
        pointers.insert(place);
    }
    let starts: BTreeSet<Place> = object.functions.iter().map(|f| (f.section, f.offset)).collect();
    let mut targets = Vec::with_capacity(guard.functions.len());
    for symbol in &guard.functions {
        let (place, name) = place(object, *symbol)?;
        if !starts.contains(&place) || !place.1.is_multiple_of(TARGET_ALIGN) {
            return Err(LoadConfigProblem::Target { name: name.to_owned() });
        }
        targets.push((place, *symbol));
    }
    targets.sort_unstable();
    targets.dedup_by_key(|(place, _)| *place);
    let listed: BTreeSet<Place> = targets.iter().map(|(place, _)| *place).collect();
    check_complete(object, &listed, &mut pointers)?;
    Ok(targets.into_iter().map(|(_, symbol)| symbol).collect())
}

/// Checks that whatever of the code others can find is listed, and that the pointers, which are not, are there.
fn check_complete(
    object: &NativeObject,
    listed: &BTreeSet<Place>,
    pointers: &mut BTreeSet<Place>,
) -> Result<(), LoadConfigProblem> {
    let is_code = |section: SectionIndex| {
        let section = object.sections.get(section.0 as usize);
        section.is_some_and(|section| section.kind == SectionKind::Code)
    };
    let named = object
        .purpose
        .entry()
        .into_iter()
        .chain(object.purpose.exports().iter().copied());
    for symbol in named {
        let (place, name) = place(object, symbol)?;
        if is_code(place.0) && !listed.contains(&place) {
            return Err(LoadConfigProblem::NotListed { name: name.to_owned() });
        }
    }
    for (index, section) in object.sections.iter().enumerate() {
        let addresses = section
            .relocations
            .iter()
            .filter(|r| r.kind == RelocationKind::Absolute64);
        for field in addresses {
            let ((section, offset), name) = place(object, field.symbol)?;
            let target = i64::from(offset)
                .checked_add(field.addend)
                .and_then(|at| u32::try_from(at).ok());
            if !is_code(section) || pointers.remove(&(SectionIndex(index as u32), field.offset)) {
                continue;
            }
            if !target.is_some_and(|target| listed.contains(&(section, target))) {
                return Err(LoadConfigProblem::NotListed { name: name.to_owned() });
            }
        }
    }
    if pointers.is_empty() {
        Ok(())
    } else {
        Err(LoadConfigProblem::EmptyPointer)
    }
}
