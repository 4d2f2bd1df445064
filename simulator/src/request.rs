//! What to run, and what came out: plain values that serialize.

use serde::{Deserialize, Serialize};

use crate::failure::{Life, Sabotage};
use crate::hex_bytes::HexBytes;
use crate::trace::{Trace, TraceReport};

/// A run of programs in one loaded image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRequest {
    /// The image's bytes. They travel beside the request, not in it.
    #[serde(skip)]
    pub image: Vec<u8>,
    /// The object that the image was built from, if its programs are to be executed by the interpreter instead of by the
    /// image's code. Maps, helpers and contexts are those of the image all the same.
    pub interpret: Option<ObjectFile>,
    /// Provider descriptions (file name, TOML text) besides those that are built in.
    pub platform_files: Vec<(String, String)>,
    /// What executes the image's code. What is reported is the same, with two exceptions. Which of the kernel's blocks a wild access beyond
    /// guard pages hits depends on the order of addresses, which is another. And only the host's processor tells, in MXCSR, that x64 code
    /// computed with floating-point numbers.
    pub processor: ProcessorKind,
    /// What to run, in this order. Empty: the image is loaded, checked and unloaded.
    pub inputs: Vec<Input>,
    /// Map contents of the first load to set before the first input, as user mode would.
    pub presets: Vec<MapPreset>,
    /// The machine around it.
    pub machine: SimulatedMachine,
    /// Limit for loading, for each invocation, and for unloading, in milliseconds. 0 means 10 seconds.
    pub time_limit_ms: u64,
    /// What results tell.
    pub tell: Tell,
    /// Something that goes wrong on purpose while the module is loaded or unloaded. If it is not [`Sabotage::None`], the
    /// report has two lives: the one that it disturbs, and another without it.
    pub sabotage: Sabotage,
    /// Take what the runtime refuses with a status for an answer, which the report gives in its only life, and not for an
    /// error. What would stop the machine or corrupt its memory stays one.
    pub defects_are_answers: bool,
    /// The runtime's version.
    pub runtime: SimulatedRuntime,
    /// How often the driver is loaded, side by side; 0 means once. Each load has its own image, module id, programs and maps;
    /// only pinned maps are shared. Loads count from 0.
    pub loads: u32,
    /// Maps that are pinned before.
    pub pinned: Vec<PinnedMap>,
    /// Providers that are not there when the module is loaded.
    pub absent: Vec<Provider>,
    /// When helpers and BTF-resolved functions get other addresses while a program is loaded, as they do when a provider
    /// detaches and attaches again.
    pub reload: Reload,
    /// What functions give, of which nothing else is known here. Otherwise BTF-resolved functions give 0, and the call of a helper
    /// ends the run.
    pub answers: Vec<Answer>,
    /// What goes wrong on purpose while programs run.
    pub mishaps: Vec<Mishap>,
    /// Ids of helpers that providers implement themselves, by returning their first argument, whatever it is. For tests of
    /// calls, which want a helper without rules of its own.
    pub echo_helpers: Vec<u32>,
    /// Whether executed instructions are counted.
    pub trace: Trace,
}

/// What executes an image's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessorKind {
    /// The host's processor, if it is one for the image: that of x86-64 Linux is for x64 images. Otherwise the emulator.
    #[default]
    Host,
    /// The emulator, whatever the host is.
    Emulated,
}

/// What is told of each invocation besides its result. Everything costs time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools)] // switches that have nothing to do with each other
pub struct Tell {
    /// Records of ring buffers and perf event arrays are taken out after each invocation, as an application does that reads
    /// them; its result has them. Otherwise they stay, until there is no room for more, and are told with the maps.
    pub records: bool,
    /// All maps, after each invocation.
    pub maps: bool,
    /// All maps, as they are before the first input.
    pub maps_before: bool,
    /// How long each invocation takes the host's processor. Only native code has that.
    #[serde(default)]
    pub times: bool,
}

/// A version of the runtime that behaves in a way of its own (native module contract §1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SimulatedRuntime {
    /// 0.21: `map_data` elements without array data, whatever the module states; program entries of 144 bytes only.
    #[serde(rename = "0.21")]
    V0_21,
    /// 1.4: `map_data` elements with array data for modules that state 1.4.0 or more; program entries of 144 bytes only.
    #[serde(rename = "1.4")]
    V1_4,
    /// 1.6: BTF-resolved functions, and program entries of 144 or 154 bytes.
    #[default]
    #[serde(rename = "1.6")]
    V1_6,
}

/// A map that somebody else has pinned before the module is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PinnedMap {
    /// The map's name, which makes the path.
    pub name: String,
    /// Map type number.
    pub map_type: u32,
    /// Key bytes.
    pub key_size: u32,
    /// Value bytes.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// Type, key bytes, value bytes and capacity of the inner maps of a map of maps.
    pub inner: Option<[u32; 4]>,
    /// What it holds: keys and values.
    pub entries: Vec<(HexBytes, HexBytes)>,
}

/// A provider, by what it offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// That of a program type, by the type's name.
    ProgramType(String),
    /// That of the BTF-resolved functions of a module, by the module's GUID.
    BtfModule(String),
    /// That of a custom map type, by the type's number.
    MapType(u32),
}

/// A provider comes or goes while the module is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderEvent {
    /// It detaches. Programs that need it are not run until it is back.
    Detach(Provider),
    /// It attaches again. Its functions have other addresses.
    Attach(Provider),
    /// It attaches again with other prototypes, which programs that state a program information hash refuse.
    AttachChanged(Provider),
}

/// When functions get other addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reload {
    /// When a provider attaches again, and only then.
    #[default]
    Never,
    /// Before each invocation.
    EachInvocation,
    /// After each call of one of them, too.
    EachCall,
}

/// Something that goes wrong on purpose while programs run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mishap {
    /// Calls of a helper or BTF-resolved function fail: it does nothing.
    Helper {
        /// Its name.
        helper: String,
        /// The program whose calls count; `None` counts those of all.
        #[serde(default)]
        program: Option<String>,
        /// Which calls fail.
        #[serde(default)]
        calls: Calls,
        /// What it gives; `None` is what the runtime gives for want of memory, room or an entry.
        #[serde(default)]
        result: Option<i64>,
    },
    /// A map has no room for more entries or records.
    FullMap {
        /// The map's name.
        map: String,
    },
    /// There is no memory for a value of a map.
    Allocation {
        /// Which allocations fail.
        #[serde(default)]
        calls: Calls,
    },
}

/// Some of many calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    /// The first, counted from 1; 0 means the same.
    pub first: u64,
    /// How many; 0 means all from the first on.
    pub count: u64,
}

/// What a helper or BTF-resolved function gives, whatever it is called with. Several for one function are given in their order,
/// and the last of them for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The function's name.
    pub function: String,
    /// What it gives. For a pointer to a map's value, only 0.
    pub result: u64,
    /// What it writes to each piece of memory that it is given to write to, with zeros behind. `None` leaves the memory as
    /// it is.
    pub writes: Option<HexBytes>,
    /// To how many calls it is given, if another answer follows; 0 means one.
    pub times: u64,
}

/// An eBPF object file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ObjectFile {
    /// The file's name, as it was given to the reader when the image was built.
    pub name: String,
    /// Its bytes. They travel beside the request, not in it.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// Whether a value need not be written, because it is what it is when it is not read.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One invocation, or several of the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Input {
    /// Program name.
    pub program: String,
    /// Programs that are attached behind it at the same attach point. The runtime's extensions run them one after another on the
    /// same context, until one could not be run or what it did ends the chain. One program may be there several times.
    #[serde(skip_serializing_if = "is_default")]
    pub then: Vec<String>,
    /// The load whose program is meant. Its maps are meant, too, by presets.
    #[serde(skip_serializing_if = "is_default")]
    pub load: u32,
    /// Bytes between the context's data pointers. Only for program types that have such pointers.
    #[serde(skip_serializing_if = "is_default")]
    pub packet: HexBytes,
    /// Bytes between the metadata pointer and the data. `None` leaves the metadata pointer 0, as providers do when there
    /// is no metadata.
    #[serde(skip_serializing_if = "is_default")]
    pub meta: Option<HexBytes>,
    /// The context structure, from its first byte; the rest is zero. The simulator sets data pointers in it.
    #[serde(skip_serializing_if = "is_default")]
    pub context: HexBytes,
    /// Providers that come or go before it.
    #[serde(skip_serializing_if = "is_default")]
    pub events: Vec<ProviderEvent>,
    /// Map contents to set before it, once, as user mode would.
    #[serde(skip_serializing_if = "is_default")]
    pub presets: Vec<MapPreset>,
    /// How often to run it, up to a million times; 0 means once. Context and packet are the same each time.
    #[serde(skip_serializing_if = "is_default")]
    pub repeat: u32,
    /// What is different on the machine from now on.
    #[serde(skip_serializing_if = "is_default")]
    pub machine: MachineChange,
    /// Its results leave out context, packet and metadata.
    #[serde(skip_serializing_if = "is_default")]
    pub without_data: bool,
}

/// What becomes different on the simulated machine. `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineChange {
    /// The processor that programs run on.
    pub cpu: Option<u32>,
    /// Time since boot, in units of 100 ns. The clock is not turned back: it stands still until then.
    pub time: Option<u64>,
    /// Process id.
    pub process_id: Option<u32>,
    /// Thread id.
    pub thread_id: Option<u32>,
}

/// A map entry to set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MapPreset {
    /// Map name.
    pub map: String,
    /// Key; empty for queues and stacks.
    pub key: HexBytes,
    /// Value. For maps of maps and program arrays, the name of a map or program of the module.
    pub value: PresetValue,
}

/// The value of a map entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresetValue {
    /// Bytes. In per-CPU maps one value is that of each processor; as many as there are processors, one behind the other, are
    /// each for its own.
    Bytes(HexBytes),
    /// The name of a map or program.
    Name(String),
}

impl Default for PresetValue {
    fn default() -> Self {
        PresetValue::Bytes(HexBytes::default())
    }
}

/// What the simulated Windows machine looks like to programs. Nothing of the real machine shows through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SimulatedMachine {
    /// Number of processors, 1 to 64.
    pub cpus: u32,
    /// The processor that programs run on.
    pub cpu: u32,
    /// Bytes of kernel stack that are left for the image. Kernel stacks have 24 KiB.
    pub stack_bytes: u32,
    /// Seed of `bpf_get_prandom_u32`.
    pub random_seed: u64,
    /// Time since boot at the first invocation, in units of 100 ns. Each reading of a clock advances it by one.
    pub boot_time: u64,
    /// Process id.
    pub process_id: u32,
    /// Thread id.
    pub thread_id: u32,
    /// Logon id (LUID) of the process.
    pub logon_id: u64,
    /// What `bpf_is_current_admin` gives where a program type implements it.
    pub is_admin: bool,
    /// Process start key.
    pub process_start_key: u64,
    /// Thread creation time, a FILETIME.
    pub thread_create_time: u64,
    /// Socket cookie.
    pub socket_cookie: u64,
    /// Flow id of a socket operation.
    pub flow_id: u64,
    /// Image path of a process, sent as UTF-16.
    pub process_image_path: String,
    /// Account name of a process, sent as UTF-16.
    pub account_name: String,
    /// Account domain of a process, sent as UTF-16.
    pub account_domain: String,
}

impl Default for SimulatedMachine {
    fn default() -> Self {
        SimulatedMachine {
            cpus: 2,
            cpu: 0,
            stack_bytes: 24 * 1024,
            random_seed: 1,
            boot_time: 600_000_000,
            process_id: 4242,
            thread_id: 4244,
            logon_id: 0x3E7,
            is_admin: false,
            process_start_key: 0x0100_0000_0000_0042,
            thread_create_time: 133_000_000_000_000_000,
            socket_cookie: 0xC00C_1E00,
            flow_id: 7,
            process_image_path: r"\Device\HarddiskVolume1\Windows\System32\notepad.exe".into(),
            account_name: "user".into(),
            account_domain: "DOMAIN".into(),
        }
    }
}

/// What a run did. No addresses, times or other facts of the real machine are in it: equal requests give equal reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// Version that the module states.
    pub stated_version: String,
    /// How the module was loaded and unloaded, each time, if the request asks for what can fail.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lives: Vec<Life>,
    /// One per invocation, in order.
    pub results: Vec<InvocationResult>,
    /// Maps, in table order, after the last invocation.
    pub maps: Vec<MapContents>,
    /// Maps as they were before the first input, if there is a list of results and the request asks for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maps_before: Vec<MapContents>,
    /// Lines printed by programs, in order, if there is a list of results. Each result has its own.
    pub printed: Vec<String>,
    /// Pin paths with the maps they name.
    pub pins: Vec<Pin>,
    /// How often each helper was called, by ascending id, per program in table order. A lookup in an array that compiled
    /// code does itself (native module contract §6.7) is no call; to the interpreter it is one.
    pub helper_calls: Vec<HelperCalls>,
    /// How often each BTF-resolved function was called, per program in table order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub btf_calls: Vec<BtfCalls>,
    /// Deepest use of the stack by a program, in bytes. What helpers need comes on top. For interpreted programs, the bytes
    /// of all frames that were in use at once.
    pub max_stack_bytes: u32,
    /// The instructions that programs executed, if the request asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceReport>,
}

/// A pinned map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Canonical path.
    pub path: String,
    /// Map name.
    pub map: String,
}

/// Calls of one helper from one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperCalls {
    /// Program name.
    pub program: String,
    /// The load whose program it is.
    #[serde(default, skip_serializing_if = "is_first")]
    pub load: u32,
    /// Helper id.
    pub id: u32,
    /// Helper name.
    pub helper: String,
    /// Number of calls.
    pub calls: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_first(load: &u32) -> bool {
    *load == 0
}

/// Calls of one BTF-resolved function from one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BtfCalls {
    /// Program name.
    pub program: String,
    /// The load whose program it is.
    #[serde(default, skip_serializing_if = "is_first")]
    pub load: u32,
    /// GUID of the module that provides it.
    pub module: String,
    /// Function name.
    pub function: String,
    /// Number of calls.
    pub calls: u64,
}

/// One invocation of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvocationResult {
    /// The program: of several at the attach point, the first.
    pub program: String,
    /// What the hook sees: the low 32 bits of the return value of the last program in the chain of tail calls. Of several at the
    /// attach point, that of the last that ran.
    pub result: u32,
    /// Name of that value, if the program type gives it one.
    pub result_name: Option<String>,
    /// Programs that ran by tail calls, in order. Of several at the attach point, those of the last that ran.
    pub tail_calls: Vec<String>,
    /// If several programs are attached: those that ran, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<ChainLink>,
    /// The context afterwards. Data pointers are shown as offsets from the start of the packet.
    pub context: HexBytes,
    /// The packet afterwards.
    pub packet: HexBytes,
    /// The metadata afterwards, if there was any.
    pub meta: Option<HexBytes>,
    /// Redirect context that the program set, of the program types that can.
    pub redirect_context: Option<HexBytes>,
    /// Why the runtime did not run it (`EBPF_EXTENSION_FAILED_TO_LOAD`); then there is no result. Of several at the attach point,
    /// it also says which one; those before it are in `chain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_run: Option<String>,
    /// Lines that it printed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub printed: Vec<String>,
    /// Helpers that failed on purpose, with the numbers of their calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// Records that it sent, of those that had room, if they are taken out after each invocation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<SentRecord>,
    /// Maps after it, if the request asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<Vec<MapContents>>,
    /// Instructions that it executed, native ones or, if it was interpreted, eBPF ones, if the request asks for that. Those of
    /// subprograms and of the programs that it tail-called are among them; those of helpers are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
    /// How long its native code took, in nanoseconds, if the request asks for that: without helpers, and with some 40 ns for
    /// going there and back, once and for each call of a helper. It differs from run to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ns: Option<u64>,
}

/// One of several programs at an attach point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// The program.
    pub program: String,
    /// The low 32 bits of the return value of the last program in the chain of tail calls.
    pub result: u32,
    /// Name of that value, if the program type gives it one.
    pub result_name: Option<String>,
    /// Programs that ran by tail calls, in order.
    pub tail_calls: Vec<String>,
}

/// A record, and where it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentRecord {
    /// Name of the ring buffer or perf event array.
    pub map: String,
    /// The record.
    #[serde(flatten)]
    pub record: RingRecord,
}

/// A map and what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapContents {
    /// Name.
    pub name: String,
    /// Map type number.
    pub map_type: u32,
    /// Map type name.
    pub type_name: String,
    /// Key bytes.
    pub key_size: u32,
    /// Value bytes.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// Type, key bytes, value bytes and capacity of the inner maps of a map of maps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<[u32; 4]>,
    /// Entries by ascending key (arrays by index). Arrays of more than 256 entries leave out those that are zero. Queues
    /// and stacks in the order in which they would be taken out; their keys are empty.
    pub entries: Vec<MapEntryContents>,
    /// Further entries of an array that are not zero: at most 65,536 are listed.
    pub omitted: u64,
    /// Records of ring buffers and perf event arrays, oldest first.
    pub records: Vec<RingRecord>,
    /// The load whose map it is. A map that several loads share is listed for each.
    #[serde(default, skip_serializing_if = "is_first")]
    pub load: u32,
}

/// A map entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapEntryContents {
    /// Key.
    pub key: HexBytes,
    /// The value; of per-CPU maps one per processor.
    pub values: Vec<HexBytes>,
    /// Name of the map or program, for maps that hold those.
    pub object: Option<String>,
}

/// A record that a program sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingRecord {
    /// Processor, of perf event arrays.
    pub cpu: Option<u32>,
    /// The bytes.
    pub data: HexBytes,
}
