//! The provider store: what eBPF for Windows keeps in the registry about providers, for tools to verify programs without them.
//!
//! Given: the key `Software\eBPF\Providers`. Computed: what it says, complete entries only. Of program types and functions a
//! broken entry is left out with a warning, as eBPF for Windows's own reader leaves it out; a broken general helper is an error,
//! because that reader then uses nothing of the store, and so is a broken section, because without it its programs could be
//! taken for those of another type.
//! Stricter than that reader about types and lengths of values, which must be exactly those that writers give; sizes of
//! structures are not judged, because older writers stored smaller ones.

use super::problem::{RegistryError, RegistryPlace, RegistryProblem};
use super::tree::{BINARY, Data, Key, Name};
use crate::Guid;

/// The names on the way from a root to the store.
pub(super) const PATH: [&str; 3] = ["Software", "eBPF", "Providers"];

/// The only version of all structures ("`ebpf_extension_header_t`").
const VERSION: u32 = 1;
/// Longest name of a section's key that readers take, in characters.
const MAX_SECTION_NAME: usize = 37;

/// What a store says.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub program_types: Vec<ProgramType>,
    pub sections: Vec<Section>,
    pub helpers: Vec<Helper>,
    pub functions: Vec<Function>,
}

/// An entry of `ProgramData`.
#[derive(Clone, Debug)]
pub(super) struct ProgramType {
    pub place: RegistryPlace,
    pub guid: Guid,
    pub name: String,
    /// Size of the context, and offsets of the pointers to data, its end and metadata.
    pub context: [i32; 4],
    pub bpf_prog_type: u32,
    pub is_privileged: bool,
    pub helpers: Vec<Helper>,
}

/// A helper's prototype.
#[derive(Clone, Debug)]
pub(super) struct Helper {
    pub place: RegistryPlace,
    pub name: String,
    pub id: u32,
    pub return_type: u32,
    pub arguments: [u32; 5],
    pub reallocate_packet: bool,
}

/// An entry of `SectionData`.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub place: RegistryPlace,
    pub prefix: String,
    pub program_type: Guid,
    pub attach_type: Guid,
    pub bpf_attach_type: u32,
}

/// An entry of `BtfResolvedFunctions`.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub place: RegistryPlace,
    pub module: Guid,
    pub name: String,
    pub return_type: u32,
    pub arguments: [u32; 5],
    pub flags: u32,
}

/// Reads a store. What is left out is told in `warnings`.
pub(super) fn read(
    file: &str,
    root: &str,
    key: &Key,
    warnings: &mut Vec<RegistryError>,
) -> Result<Store, RegistryError> {
    let store = At {
        file,
        path: format!("{root}\\{}", PATH.join("\\")),
        key,
    };
    let mut read = Store::default();
    for entry in store.keys_of("ProgramData") {
        match program_type(&entry) {
            Ok(program_type) => read.program_types.push(program_type),
            Err(problem) => warnings.push(problem),
        }
    }
    for entry in store.keys_of("SectionData") {
        if entry.key.name.encode_utf16().count() > MAX_SECTION_NAME {
            let long = format!("the name is longer than {MAX_SECTION_NAME} characters, and readers ignore it");
            warnings.push(entry.error(None, RegistryProblem::Unusable(long)));
            continue;
        }
        read.sections.push(section(&entry)?);
    }
    for entry in store.keys_of("GlobalHelpers") {
        read.helpers.push(helper(&entry)?);
    }
    for module in store.keys_of("BtfResolvedFunctions") {
        match functions(&module, warnings) {
            Ok(functions) => read.functions.extend(functions),
            Err(problem) => warnings.push(problem),
        }
    }
    Ok(read)
}

fn program_type(entry: &At<'_>) -> Result<ProgramType, RegistryError> {
    let guid = entry.guid()?;
    entry.version()?;
    let count = entry.dword("HelperCount")?;
    let descriptor = entry.child("TypeDescriptor").ok_or_else(|| {
        let missing = RegistryProblem::Missing("the key `TypeDescriptor`");
        entry.error(None, missing)
    })?;
    descriptor.version()?;
    let context = numbers::<4, 16>(descriptor.binary("ContextDescriptor", "REG_BINARY of 16 bytes")?);
    let helpers: Vec<At<'_>> = entry.keys_of("Helpers").collect();
    if count as usize != helpers.len() {
        let found = helpers.len();
        let stated = count;
        return Err(entry.error(Some("HelperCount"), RegistryProblem::HelperCount { stated, found }));
    }
    Ok(ProgramType {
        place: entry.place(),
        guid,
        name: descriptor.text("Name")?,
        context: context.map(|n| n as i32),
        bpf_prog_type: descriptor.dword("BpfProgType")?,
        is_privileged: descriptor.dword("IsPrivileged")? != 0,
        helpers: helpers.iter().map(helper).collect::<Result<_, _>>()?,
    })
}

fn helper(entry: &At<'_>) -> Result<Helper, RegistryError> {
    entry.version()?;
    let prototype = numbers::<7, 28>(entry.binary("Prototype", "REG_BINARY of 28 bytes")?);
    let [id, return_type, arguments @ ..] = prototype;
    Ok(Helper {
        place: entry.place(),
        name: entry.key.name.clone(),
        id,
        return_type,
        arguments,
        reallocate_packet: entry.dword_if_any("ReallocatePacket")?.unwrap_or(0) != 0,
    })
}

fn section(entry: &At<'_>) -> Result<Section, RegistryError> {
    const GUID: &str = "REG_BINARY of 16 bytes, a GUID";
    Ok(Section {
        place: entry.place(),
        prefix: entry.key.name.clone(),
        program_type: Guid(entry.binary("ProgramType", GUID)?),
        attach_type: Guid(entry.binary("AttachType", GUID)?),
        bpf_attach_type: entry.dword_if_any("BpfAttachType")?.unwrap_or(0),
    })
}

/// The functions of a module; a broken one is left out.
fn functions(module: &At<'_>, warnings: &mut Vec<RegistryError>) -> Result<Vec<Function>, RegistryError> {
    let guid = module.guid()?;
    module.dword("Version")?;
    module.dword("Size")?;
    let mut read = Vec::new();
    for entry in module.keys_of("Functions") {
        let function = || -> Result<Function, RegistryError> {
            Ok(Function {
                place: entry.place(),
                module: guid,
                name: entry.key.name.clone(),
                return_type: entry.dword("ReturnType")?,
                arguments: numbers::<5, 20>(entry.binary("Arguments", "REG_BINARY of 20 bytes")?),
                flags: entry.dword("Flags")?,
            })
        };
        match function() {
            Ok(function) => read.push(function),
            Err(problem) => warnings.push(problem),
        }
    }
    Ok(read)
}

/// Numbers that lie behind each other, low byte first.
fn numbers<const N: usize, const BYTES: usize>(bytes: [u8; BYTES]) -> [u32; N] {
    const { assert!(N * 4 == BYTES) };
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *number = u32::from_le_bytes(*bytes);
    }
    numbers
}

/// A key with what a message needs.
struct At<'a> {
    file: &'a str,
    path: String,
    key: &'a Key,
}

impl<'a> At<'a> {
    fn place(&self) -> RegistryPlace {
        RegistryPlace {
            file: self.file.to_owned(),
            line: self.key.line,
            key: self.path.clone(),
            value: None,
        }
    }

    fn error(&self, value: Option<&str>, problem: RegistryProblem) -> RegistryError {
        let known = value.and_then(|name| self.key.values.get(&Name::new(name)));
        RegistryError {
            place: RegistryPlace {
                line: known.map_or(self.key.line, |value| value.line),
                value: value.map(str::to_owned),
                ..self.place()
            },
            problem,
        }
    }

    fn child(&self, name: &str) -> Option<At<'a>> {
        let key = self.key.keys.get(&Name::new(name))?;
        Some(self.below(key))
    }

    fn below(&self, key: &'a Key) -> At<'a> {
        At {
            file: self.file,
            path: format!("{}\\{}", self.path, key.name),
            key,
        }
    }

    /// The keys below the key `name`; none if there is no such key.
    fn keys_of(&self, name: &str) -> impl Iterator<Item = At<'a>> + use<'a> {
        let parent = self.child(name);
        let keys = parent.as_ref().map(|parent| parent.key.keys.values());
        let entries: Vec<At<'a>> = keys
            .into_iter()
            .flatten()
            .filter_map(|key| parent.as_ref().map(|parent| parent.below(key)))
            .collect();
        entries.into_iter()
    }

    /// The key's name as a GUID in braces.
    fn guid(&self) -> Result<Guid, RegistryError> {
        let inside = self.key.name.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
        let inside = inside.filter(|name| name.len() == 36);
        let guid = inside.and_then(|name| name.parse().ok());
        guid.ok_or_else(|| self.error(None, RegistryProblem::NoGuid))
    }

    /// Checks the header of a structure.
    fn version(&self) -> Result<(), RegistryError> {
        let version = self.dword("Version")?;
        if version != VERSION {
            return Err(self.error(Some("Version"), RegistryProblem::Version(version)));
        }
        self.dword("Size").map(|_| ())
    }

    fn dword(&self, name: &str) -> Result<u32, RegistryError> {
        self.dword_if_any(name)?
            .ok_or_else(|| self.error(Some(name), RegistryProblem::Missing("the value")))
    }

    fn dword_if_any(&self, name: &str) -> Result<Option<u32>, RegistryError> {
        match self.data(name) {
            None => Ok(None),
            Some(Data::Dword(number)) => Ok(Some(*number)),
            Some(other) => Err(self.mistyped(name, other, "REG_DWORD")),
        }
    }

    fn text(&self, name: &str) -> Result<String, RegistryError> {
        match self.data(name) {
            None => Err(self.error(Some(name), RegistryProblem::Missing("the value"))),
            Some(Data::Text(text)) => Ok(text.clone()),
            Some(other) => Err(self.mistyped(name, other, "REG_SZ")),
        }
    }

    fn binary<const N: usize>(&self, name: &str, expected: &'static str) -> Result<[u8; N], RegistryError> {
        match self.data(name) {
            None => Err(self.error(Some(name), RegistryProblem::Missing("the value"))),
            Some(data @ Data::Bytes(kind, bytes)) => match <[u8; N]>::try_from(bytes.as_slice()) {
                Ok(bytes) if *kind == BINARY => Ok(bytes),
                _ => Err(self.mistyped(name, data, expected)),
            },
            Some(other) => Err(self.mistyped(name, other, expected)),
        }
    }

    fn data(&self, name: &str) -> Option<&'a Data> {
        self.key.values.get(&Name::new(name)).map(|value| &value.data)
    }

    fn mistyped(&self, name: &str, found: &Data, expected: &'static str) -> RegistryError {
        let found = found.describe();
        self.error(Some(name), RegistryProblem::Mistyped { found, expected })
    }
}
