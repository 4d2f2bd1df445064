//! The rules that an image or its code can break, each with a stable name and the source it comes from.
//!
//! A [`Violation`] is one broken rule: what is wrong and where. Names are stable, so that tests and scripts can rely on
//! them; texts are made when a violation is shown.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! rules {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal, $source:literal; )+) => {
        /// A rule of Windows, of user-mode eBPF or of the kernel-mode runtime.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[allow(clippy::doc_markdown)] // the texts are shown to people as they are
        pub enum Rule {
            $( $(#[doc = $doc])+ $name, )+
        }

        impl Rule {
            /// Every rule, in the order in which they are listed here.
            pub const ALL: &'static [Rule] = &[ $( Rule::$name, )+ ];

            /// Stable name.
            pub fn code(self) -> &'static str {
                match self { $( Rule::$name => $code, )+ }
            }

            /// Where the rule comes from.
            pub fn source(self) -> &'static str {
                match self { $( Rule::$name => $source, )+ }
            }

            /// What the rule demands.
            pub fn text(self) -> &'static str {
                match self { $( Rule::$name => concat!($($doc),+).trim_ascii_start(), )+ }
            }
        }
    };
}

rules! {
    // ---- the loader
    /// the machine must be x86-64 or ARM64
    Machine = "machine", "PE format, \"Machine Types\"";
    /// the optional header must be PE32+ of 240 bytes with 16 data directories
    OptionalHeader = "optional-header", "PE format, \"Optional Header\"; native module contract §5.1";
    /// the file header must say executable image and must not say that relocations were stripped
    Characteristics = "characteristics", "PE format, \"Characteristics\"";
    /// the subsystem of a driver is NATIVE, that of a DLL Windows GUI or CUI
    Subsystem = "subsystem", "PE format, \"Windows Subsystem\"";
    /// image base, section alignment and file alignment must be those that the kernel maps
    Alignment = "alignment", "PE format, \"Optional Header Windows-Specific Fields\"";
    /// headers must hold the section table and end before the first section
    HeaderSize = "header-size", "PE format, \"Optional Header Windows-Specific Fields\"";
    /// sections must follow each other in memory without gap or overlap
    SectionLayout = "section-layout", "PE format, \"Section Table\"";
    /// the raw data of a section must be aligned, inside the file and not shared with another section
    SectionRawData = "section-raw-data", "PE format, \"Section Table\"";
    /// the size of the image must be the end of its last section
    ImageSize = "image-size", "PE format, \"Optional Header Windows-Specific Fields\"";
    /// no section may be both writable and executable
    WritableCode = "writable-code", "HVCI, memory integrity; native module contract §2.4";
    /// the entry point must lie in code; only a DLL can be without
    EntryPoint = "entry-point", "PE format, \"Optional Header Standard Fields\"";
    /// the checksum of a driver must be right
    Checksum = "checksum", "PE format, \"Optional Header Windows-Specific Fields\"";
    /// data directories must lie inside the image, and those a driver cannot have must be empty
    DataDirectory = "data-directory", "PE format, \"Optional Header Data Directories\"";
    /// base relocations must be well formed, DIR64 and inside sections
    BaseRelocation = "base-relocation", "PE format, \"The .reloc Section\"; native module contract §5.1";
    /// base relocations must not touch code pages
    RelocatedCode = "relocated-code", "HVCI, memory integrity";
    /// the import tables must be well formed and end with a null descriptor
    ImportTable = "import-table", "PE format, \"The .idata Section\"";
    /// only functions that Windows offers to a native module can be imported
    UnknownImport = "unknown-import", "native module contract §2.1";
    /// the import address table must not lie in an executable section
    ImportTableInCode = "import-table-in-code", "HVCI, memory integrity; native module contract §2.4";
    /// the image must be marked as relocatable and compatible with non-executable data
    DllCharacteristics = "dll-characteristics", "native module contract §2.4";
    /// program code and data must be neither pageable nor discardable
    PageableSection = "pageable-section", "native module contract §2.4";
    /// the function table must be sorted and describe code
    FunctionTable = "function-table", "PE format, \"The .pdata Section\"";
    /// the load configuration must be well formed, and what it leads to be there
    LoadConfig = "load-config", "PE format, \"The Load Configuration Structure\"";
    /// the export tables must be well formed, and names sorted
    ExportTable = "export-table", "PE format, \"The .edata Section\"";
    /// a DLL must export its function get_metadata_table by name
    MetadataExport = "metadata-export", "native module contract §3";

    // ---- user mode
    /// the file must be one that pe-parse reads
    UserModeFile = "user-mode-file", "native module contract §5.1";
    /// the map table must start where user mode finds it and hold nothing else
    UserModeMapTable = "user-mode-map-table", "native module contract §5.2";
    /// the program table must start where user mode finds it and hold nothing else
    UserModeProgramTable = "user-mode-program-table", "native module contract §5.2";
    /// strings of the tables must lie in .rdata, registered before it is needed, or in the table's own section
    UserModeString = "user-mode-string", "native module contract §5.2";
    /// program type and attach type must lie in .data
    UserModeGuid = "user-mode-guid", "native module contract §5.3";
    /// each program needs exactly one code section with its section name
    UserModeCodeSection = "user-mode-code-section", "native module contract §5.3";
    /// user mode and kernel mode must see the same programs and maps in the same order
    ViewsDiffer = "views-differ", "native module contract §5.4";

    // ---- driver life cycle
    /// RtlQueryRegistryValues must get a well-formed query table
    QueryTable = "query-table", "native module contract §2.2";
    /// the module id must come from the registry value NpiModuleId, and bad values must be refused
    ModuleId = "module-id", "native module contract §2.3";
    /// NmrRegisterClient must get well-formed client characteristics
    ClientCharacteristics = "client-characteristics", "native module contract §2.2";
    /// the attach callback must offer its metadata table to the provider that attaches
    ClientAttach = "client-attach", "native module contract §2.3";
    /// the detach callback must succeed and forget the binding
    ClientDetach = "client-detach", "native module contract §2.3";
    /// DriverEntry must return what failed, and set DriverUnload when nothing did
    DriverEntry = "driver-entry", "native module contract §2.3";
    /// DriverUnload must deregister the client and wait until that is complete
    DriverUnload = "driver-unload", "native module contract §2.3";
    /// DllMain must return TRUE
    DllMain = "dll-main", "native module contract §3";
    /// the metadata table must be offered and reach to its last function
    MetadataTable = "metadata-table", "native module contract §4.1";
    /// the metadata table must have all functions that the runtime calls without looking
    MetadataFunction = "metadata-function", "native module contract §4.1";
    /// the stated bpf2c version must be at least 0.21.0
    Version = "version", "native module contract §1.3, §4.1";
    /// an array is NULL exactly when its count is 0
    ArrayPointer = "array-pointer", "native module contract §4.1";
    /// the header of each element must have the version and size that the runtime accepts
    ElementHeader = "element-header", "native module contract §1.1, §4.1";
    /// required pointers of table elements must not be NULL
    ElementPointer = "element-pointer", "native module contract §4.1";
    /// results of the metadata functions must stay the same
    UnstableMetadata = "unstable-metadata", "native module contract §1.1";

    // ---- maps, programs
    /// pinning is 0 or 1, and a pinned name must make a valid path
    MapPinning = "map-pinning", "native module contract §4.3";
    /// a map that is pinned already must have the definition that the module states
    PinnedMap = "pinned-map", "native module contract §4.3";
    /// map definitions must be ones that the runtime creates
    MapDefinition = "map-definition", "native module contract §4.3";
    /// a custom map type needs the extension that implements it
    MapProvider = "map-provider", "native module contract §4.3";
    /// programs must be of a type that the extension of a custom map takes
    MapAssociation = "map-association", "native module contract §4.4";
    /// a map of maps needs a resolvable inner template
    InnerTemplate = "inner-template", "native module contract §4.3";
    /// names of maps, programs and sections have 1 to 63 bytes
    NameLength = "name-length", "native module contract §4.3, §4.4";
    /// the program type must be given and its extension must be attached
    ProgramType = "program-type", "native module contract §4.4";
    /// referenced map indices must be below the number of maps
    MapIndex = "map-index", "native module contract §4.4";
    /// a program array holds programs of one type
    ProgramArrayType = "program-array-type", "native module contract §4.9";
    /// a global variable section needs an ARRAY map of its name
    GlobalSection = "global-section", "native module contract §4.5";
    /// a global variable section must fit its map, into which the runtime copies it without looking
    GlobalSectionSize = "global-section-size", "native module contract §4.5";
    /// BTF-resolved functions need an attached provider
    BtfFunction = "btf-function", "native module contract §4.7";
    /// helper ids must be known to the program type
    HelperId = "helper-id", "native module contract §4.6";
    /// helper ids of one program must be distinct
    DuplicateHelper = "duplicate-helper", "native module contract §4.6";
    /// the program information hash must be the one the runtime computes
    ProgramInfoHash = "program-info-hash", "native module contract §4.8";
    /// initial values must be of a map that takes them, and programs of the module
    InitialValue = "initial-value", "native module contract §4.9";
    /// initial values of maps of maps must be maps of the module; the runtime does not look
    InitialMap = "initial-map", "native module contract §4.9";
    /// tables must be readable where they say they are
    WildPointer = "wild-pointer", "native module contract §1.1";
    /// the program's function must lie in code
    ProgramFunction = "program-function", "native module contract §1.1, §6.1";

    // ---- running code
    /// nonvolatile registers, stack pointer and the control bits of the processor must be as the caller left them, and x18 of an ARM64 processor as the system left it
    Nonvolatile = "nonvolatile", "x64 calling convention, \"Caller/callee saved registers\"; ARM64 ABI conventions, \"Integer registers\"";
    /// the stack must be aligned where a function is called, on x64 with home space
    StackAtCall = "stack-at-call", "x64 calling convention, \"Stack allocation\"; ARM64 ABI conventions, \"Stack\"";
    /// helpers are called with six arguments, the last of them the context
    HelperContext = "helper-context", "native module contract §6.4";
    /// addresses of helpers and BTF-resolved functions must be read from their table for each call
    FormerAddress = "former-address", "native module contract §1.2";
    /// a helper of another program's table was called
    ForeignHelper = "foreign-helper", "native module contract §1.2";
    /// pointer arguments of helpers must be memory that the program may use
    HelperArgument = "helper-argument", "native module contract §6.4";
    /// memory that belongs to the runtime must not be changed
    RuntimeMemory = "runtime-memory", "native module contract §6.1";
    /// a function that the kernel calls by its address must be in the function table of an image with Control Flow Guard
    GuardTarget = "guard-target", "PE format, \"Control Flow Guard\"";
    /// code that says that its calls by address are checked must have each of them checked
    UnguardedCall = "unguarded-call", "PE format, \"Control Flow Guard\"";
    /// stand-ins are only to be called where the real function may be
    UnexpectedCall = "unexpected-call", "native module contract §2.3";
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What is wrong, and where.
    pub detail: String,
}

impl Violation {
    /// A violation of `rule`.
    pub fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Violation {
            rule,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} ({}; {})",
            self.rule.code(),
            self.detail,
            self.rule.text(),
            self.rule.source()
        )
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_rules_are_distinct() {
        let mut codes: Vec<_> = Rule::ALL.iter().map(|r| r.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Rule::ALL.len());
    }

    #[test]
    fn a_violation_says_what_and_why_and_whence() {
        let text = Violation::new(Rule::Checksum, "the header says 1, the file has 2").to_string();
        assert!(text.starts_with("checksum: the header says 1"), "{text}");
        assert!(
            text.contains("the checksum of a driver must be right; PE format"),
            "{text}"
        );
    }
}
