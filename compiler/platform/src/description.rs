//! What provider files tell people besides what the verifier and the runtime use. All of it may be unknown: a Windows
//! machine's registry, for one, holds none of it.

use serde::{Deserialize, Serialize};

/// A provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Name.
    pub id: String,
    /// What it offers, as a sentence or more.
    pub doc: Option<String>,
    /// Where its facts come from: a repository, with version and commit.
    pub source: Source,
    /// The drivers that it consists of.
    pub modules: Vec<String>,
}

/// Where facts come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Source {
    /// A repository.
    pub repository: Option<String>,
    /// The version in it that was read.
    pub version: Option<String>,
    /// The commit.
    pub commit: Option<String>,
}

/// What is known of a program type besides what its programs may do.
#[derive(Clone, Debug, Default)]
pub struct ProgramTypeDescription {
    /// When its programs run, as a sentence or more.
    pub doc: Option<String>,
    /// What to look out for.
    pub note: Option<String>,
    /// The part of the generated headers that declares it: lower-case letters, digits and `_`.
    pub part: String,
    /// Name of `bpf_prog_type` in headers.
    pub bpf_prog_type_name: Option<String>,
    /// Interrupt request level at which its programs run.
    pub required_irql: Option<String>,
    /// The driver that runs its programs.
    pub module: Option<String>,
    /// Name of the enumeration of its return values.
    pub return_enum: Option<String>,
    /// What its return values mean together.
    pub return_doc: Option<String>,
}

/// A structure that programs use besides their context.
#[derive(Clone, Debug)]
pub struct Structure {
    /// Name of the C type.
    pub name: String,
    /// Size in bytes.
    pub size: u32,
    /// The provider's own header that declares it.
    pub header: Option<String>,
    /// What it holds.
    pub doc: Option<String>,
    /// What to look out for.
    pub note: Option<String>,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Id of the provider that uses it.
    pub provider: String,
    /// The part of the generated headers that declares it.
    pub part: String,
}

/// A field of a context or another structure.
#[derive(Clone, Debug)]
pub struct Field {
    /// Name.
    pub name: String,
    /// C type as the provider's header has it.
    pub c_type: String,
    /// Offset in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// What it holds.
    pub doc: Option<String>,
    /// What kind of field it is.
    pub kind: Option<FieldKind>,
    /// What its numbers count, or stand for.
    pub unit: Option<String>,
    /// Order of its bytes, where that is not the processor's.
    pub byte_order: Option<ByteOrder>,
    /// How people write it, where that is not as a number or as bytes.
    pub format: Option<Format>,
    /// When it has a meaning.
    pub valid_for: Option<String>,
    /// What the provider does with a value that a program writes.
    pub store_effect: Option<String>,
    /// Whether no further program at the attach point runs once a program has changed it.
    pub change_ends_chain: bool,
    /// Name of the enumeration that `values` form.
    pub enumeration: Option<String>,
    /// The values that it can have, where they are few.
    pub values: Vec<Enumerator>,
    /// What to look out for.
    pub note: Option<String>,
}

/// A value that a field can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enumerator {
    /// Name of the constant.
    pub name: String,
    /// Value.
    pub value: i64,
    /// What it means.
    pub doc: Option<String>,
}

/// Kinds of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// A number.
    Scalar,
    /// One of `values`.
    Enum,
    /// Bytes.
    Bytes,
    /// The pointer to the first byte of data.
    DataPointer,
    /// The pointer past the last byte of data.
    DataEndPointer,
    /// The pointer to metadata before the data.
    DataMetaPointer,
}

/// Orders of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ByteOrder {
    /// The processor's: little endian on all machines that run Windows.
    Host,
    /// The most significant byte first.
    Network,
}

/// How people write the bytes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// An IPv4 address, in network order.
    Ipv4,
    /// An IPv6 address, in network order.
    Ipv6,
    /// A port: in network order in the first two bytes of the field, which may have more.
    Port,
    /// A number of an IP protocol.
    IpProtocol,
    /// A time: units of 100 ns since 1601 in UTC.
    Filetime,
    /// A binary SID, with zeros behind it.
    Sid,
    /// A socket address of Winsock with an IPv4 address (`SOCKADDR_IN`).
    SocketAddress,
}

impl Format {
    /// Its name in provider files.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Ipv4 => "ipv4",
            Format::Ipv6 => "ipv6",
            Format::Port => "port",
            Format::IpProtocol => "ip_protocol",
            Format::Filetime => "filetime",
            Format::Sid => "sid",
            Format::SocketAddress => "socket_address",
        }
    }
}

/// What becomes of the packet on a return value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It goes on to the system.
    Passed,
    /// It ends there.
    Dropped,
    /// It goes back out of the interface that it came in by.
    SentBack,
    /// It goes out of another interface, or to another processor or socket.
    Redirected,
}

impl Fate {
    /// Its name in provider files.
    pub const fn name(self) -> &'static str {
        match self {
            Fate::Passed => "passed",
            Fate::Dropped => "dropped",
            Fate::SentBack => "sent_back",
            Fate::Redirected => "redirected",
        }
    }
}

/// How people write the data that the pointers of a context enclose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// Text in UTF-16, low byte first, without terminator.
    Utf16,
}

/// A C declaration of a function, as far as it is known: what is not follows from the types of its prototype.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// C type of what it returns.
    pub returns: Option<String>,
    /// Its arguments, `r1` first.
    pub parameters: Vec<Parameter>,
}

/// What a C declaration says of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name.
    pub name: String,
    /// C type.
    pub c_type: Option<String>,
}

/// What is known of a helper besides its prototype.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelperDescription {
    /// What it does, as a sentence or more.
    pub doc: Option<String>,
    /// What to look out for.
    pub note: Option<String>,
    /// Its name in the provider's header, where that is not the registered one.
    pub header_symbol: Option<String>,
    /// How C declares it.
    pub signature: Signature,
    /// The attach types at which it works; empty if at all, or if unknown.
    pub attach_types: Vec<String>,
    /// Whether its implementation takes the context as a further argument that programs do not pass.
    pub implicit_context: Option<bool>,
    /// Whether the provider publishes its address, without which a program that calls it does not load.
    pub address_published: Option<bool>,
    /// The structure that it fills.
    pub out_struct: Option<String>,
}

/// An argument type of helpers (`ebpf_argument_type_t`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentType {
    /// Name of the constant in headers.
    pub symbol: String,
    /// Number.
    pub value: u32,
    /// How it combines with its neighbours.
    pub class: ArgumentClass,
    /// What the verifier believes the register holds.
    pub kind: Option<String>,
    /// Whether the pointer may be null.
    pub or_null: bool,
    /// What an argument of it must be.
    pub doc: Option<String>,
}

/// A return type of helpers (`ebpf_return_type_t`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnType {
    /// Name of the constant in headers.
    pub symbol: String,
    /// Number.
    pub value: u32,
    /// What is returned.
    pub class: ReturnClass,
    /// What a program gets.
    pub doc: Option<String>,
}

/// What a helper returns.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ReturnClass {
    /// A number.
    Integer,
    /// A pointer to a value of the map that is passed, or null.
    MapValueOrNull,
    /// Another pointer.
    Pointer,
    /// Programs that call the helper are refused.
    Unsupported,
}

/// How an argument type combines with its neighbours.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ArgumentClass {
    /// Ends the argument list.
    Stop,
    /// One register.
    Single,
    /// A pointer whose size is the next argument.
    PairPointer,
    /// The size of the pointer before it.
    PairSize,
    /// Programs that call the helper are refused.
    Unsupported,
}
