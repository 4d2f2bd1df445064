//! Stand-ins for the registry query and the Network Module Registrar, and the driver's life around them
//! (native module contract §2).

use super::kernel::{Activity, Kernel, no_memory};
use super::mapping;
use super::memory::{OutOfMemory, PAGE, Use};
use super::thunks::Import;
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::kernel_tables::{self, Array, Tables};
use crate::request::Sabotage;
use crate::rule::Rule;
use crate::tables::{ClientCharacteristics, MetadataTable, ModuleId, QueryRow, UnicodeString, Version};

/// NPI of native modules, c847aac8-a6f2-4b53-aea3-f4a94b9a80cb.
const NPI_ID: [u8; 16] = [
    0xc8, 0xaa, 0x47, 0xc8, 0xf2, 0xa6, 0x53, 0x4b, 0xae, 0xa3, 0xf4, 0xa9, 0x4b, 0x9a, 0x80, 0xcb,
];
/// Module id that user mode would have made up for this load.
const MODULE_GUID: [u8; 16] = *b"\x01\x02\x03\x04\x05\x06\x47\x08\x89\x0a\x0b\x0c\x0d\x0e\x0f\x10";
/// Module id of ebpfcore, 5e24d2f5-f799-42c3-a945-87feefd930a7.
const PROVIDER_GUID: [u8; 16] = [
    0xf5, 0xd2, 0x24, 0x5e, 0x99, 0xf7, 0xc3, 0x42, 0xa9, 0x45, 0x87, 0xfe, 0xef, 0xd9, 0x30, 0xa7,
];

const STATUS_SUCCESS: u32 = 0;
const STATUS_PENDING: u32 = 0x103;
const STATUS_UNSUCCESSFUL: u32 = 0xC000_0001;
const STATUS_INVALID_PARAMETER: u32 = 0xC000_000D;
const STATUS_OBJECT_NAME_NOT_FOUND: u32 = 0xC000_0034;
const STATUS_NOINTERFACE: u32 = 0xC000_02B9;

const REG_SZ: u32 = 1;
const REG_BINARY: u32 = 3;
const QUERY_SUBKEY: u32 = 1;
const QUERY_REQUIRED: u32 = 4;

const REGISTRY_PATH: &str = r"\Registry\Machine\System\CurrentControlSet\Services\module";

/// Offset of `DriverUnload` in `DRIVER_OBJECT`, and the structure's size.
const DRIVER_UNLOAD: usize = 0x68;
const DRIVER_OBJECT_SIZE: usize = 336;

/// Driver object, registration and binding.
#[derive(Default)]
pub struct Nmr {
    driver_object: u64,
    driver_object_before: Vec<u8>,
    registry_path: u64,
    unload: u64,
    client: Option<Client>,
    /// The binding that is being offered or stands.
    binding: u64,
    /// Whether the client took it.
    attached: bool,
    offering: Offer,
    waited: bool,
    /// What the module showed at its first attach.
    pub tables: Option<(Tables, (u32, u32, u32))>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Offer {
    #[default]
    None,
    /// The provider may be attached to.
    Open,
    /// A second provider is offered while the first is attached: it must not be attached to.
    Second,
    /// `NmrClientAttachProvider` was called.
    Taken,
}

struct Client {
    handle: u64,
    attach: u64,
    detach: u64,
    context: u64,
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

impl Kernel {
    /// Runs `DriverEntry`. Gives its status; a failure is an answer only to sabotage that makes it fail.
    pub fn start_driver(&mut self) -> Result<u32, SimulatorError> {
        let path = utf16(REGISTRY_PATH);
        self.nmr.registry_path = self.allocate_bytes(&path, "the registry path")?;
        let mut string: UnicodeString = zerocopy::FromZeros::new_zeroed();
        string.length.set(path.len() as u16 - 2);
        string.maximum_length.set(path.len() as u16);
        string.buffer.set(self.nmr.registry_path);
        let string = self.allocate_bytes(
            zerocopy::IntoBytes::as_bytes(&string),
            "the registry path's UNICODE_STRING",
        )?;
        let mut object = vec![0u8; DRIVER_OBJECT_SIZE];
        object[0] = 4; // IO_TYPE_DRIVER
        object[2..4].copy_from_slice(&(DRIVER_OBJECT_SIZE as u16).to_le_bytes());
        object[0x18..0x20].copy_from_slice(&self.image.base.to_le_bytes());
        object[0x20..0x24].copy_from_slice(&(self.image.size as u32).to_le_bytes());
        object[0x58..0x60].copy_from_slice(&self.image.entry.to_le_bytes());
        self.nmr.driver_object = self.allocate_bytes(&object, "the DRIVER_OBJECT")?;
        self.nmr.driver_object_before = object;

        let (entry, driver) = (self.image.entry, self.nmr.driver_object);
        let status = self.call(entry, &[driver, string], Activity::DriverEntry)? as u32;
        mapping::discard(&self.image, &mut self.memory)?;

        let object = self.memory.read(driver, DRIVER_OBJECT_SIZE).unwrap_or_default();
        let unload = self.memory.read_u64(driver + DRIVER_UNLOAD as u64).unwrap_or(0);
        let mut expected = self.nmr.driver_object_before.clone();
        expected[DRIVER_UNLOAD..DRIVER_UNLOAD + 8].copy_from_slice(&unload.to_le_bytes());
        if object != expected {
            return Err(self.broken(
                Rule::DriverEntry,
                "DriverEntry changed more of the driver object than DriverUnload",
            ));
        }
        let expected = match self.request.sabotage {
            Sabotage::ModuleIdMissing => STATUS_OBJECT_NAME_NOT_FOUND,
            Sabotage::ModuleIdWrongType | Sabotage::ModuleIdWrongLength => STATUS_INVALID_PARAMETER,
            Sabotage::RegisterClientFails => STATUS_UNSUCCESSFUL,
            Sabotage::None | Sabotage::AttachProviderFails => STATUS_SUCCESS,
        };
        if status != expected {
            return Err(self.broken(
                Rule::DriverEntry,
                format!("DriverEntry returned {status:#010x} where {expected:#010x} was due"),
            ));
        }
        if status != STATUS_SUCCESS {
            if unload != 0 {
                return Err(self.broken(Rule::DriverEntry, "DriverUnload is set although DriverEntry failed"));
            }
            if self.nmr.client.is_some() {
                return Err(self.broken(Rule::DriverEntry, "DriverEntry failed and left its client registered"));
            }
            return Ok(status);
        }
        if !self.image.is_code(unload) {
            let place = self.memory.place(unload);
            return Err(self.broken(Rule::DriverEntry, format!("DriverUnload is {place}")));
        }
        if self.nmr.client.is_none() {
            return Err(self.broken(Rule::DriverEntry, "DriverEntry succeeded without NmrRegisterClient"));
        }
        self.nmr.unload = unload;
        Ok(status)
    }

    /// Detaches and attaches again, as when ebpfcore restarts, then runs `DriverUnload`.
    pub fn stop_driver(&mut self) -> Result<(), SimulatorError> {
        if self.nmr.attached {
            self.detach()?;
            self.attach()?;
            if !self.nmr.attached {
                return Err(self.broken(
                    Rule::ClientDetach,
                    "after a detach, the next provider was not attached to",
                ));
            }
        }
        let (unload, driver) = (self.nmr.unload, self.nmr.driver_object);
        self.call(unload, &[driver], Activity::Unload)?;
        if self.nmr.client.is_some() {
            return Err(self.broken(Rule::DriverUnload, "DriverUnload did not call NmrDeregisterClient"));
        }
        if !self.nmr.waited {
            return Err(self.broken(
                Rule::DriverUnload,
                "DriverUnload returned while the deregistration was pending",
            ));
        }
        Ok(())
    }

    /// Runs a stand-in that the image imports.
    pub fn import(&mut self, import: Import) -> Result<u64, SimulatorError> {
        let mut a = [0u64; 5];
        for (i, argument) in a.iter_mut().enumerate().take(import.arguments()) {
            *argument = self.argument(i)?;
        }
        match import {
            Import::RtlQueryRegistryValues => self.query_registry_values(a[0], a[1], a[2], a[3]).map(u64::from),
            Import::NmrRegisterClient => self.register_client(a[0], a[1], a[2]).map(u64::from),
            Import::NmrClientAttachProvider => self.client_attach_provider(a).map(u64::from),
            Import::NmrDeregisterClient => self.deregister_client(a[0]).map(u64::from),
            Import::NmrWaitForClientDeregisterComplete => self.wait_for_deregister(a[0]).map(u64::from),
            Import::Memmove => {
                let bytes = self.read_argument(a[1], a[2], "the source of memcpy")?;
                self.write_argument(a[0], &bytes, "the destination of memcpy")?;
                Ok(a[0])
            }
            Import::Memset => {
                let length = usize::try_from(a[2]).unwrap_or(usize::MAX);
                if !self.memory.fill(a[0], length, a[1] as u8) {
                    let place = self.memory.place(a[0]);
                    return Err(self.broken(Rule::WildPointer, format!("memset of {length} bytes at {place}")));
                }
                Ok(a[0])
            }
            Import::Memcmp => {
                let left = self.read_argument(a[0], a[2], "the first argument of memcmp")?;
                let right = self.read_argument(a[1], a[2], "the second argument of memcmp")?;
                Ok(u64::from(left.cmp(&right) as i32 as u32))
            }
        }
    }

    fn read_argument(&self, address: u64, length: u64, what: &str) -> Result<Vec<u8>, SimulatorError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.memory.read(address, length).ok_or_else(|| {
            self.broken(
                Rule::WildPointer,
                format!("{what}, {length} bytes, is {}", self.memory.place(address)),
            )
        })
    }

    fn write_argument(&mut self, address: u64, bytes: &[u8], what: &str) -> Result<(), SimulatorError> {
        if self.memory.write(address, bytes) {
            return Ok(());
        }
        let place = self.memory.place(address);
        Err(self.broken(Rule::WildPointer, format!("{what}, {} bytes, is {place}", bytes.len())))
    }

    fn read_utf16(&self, address: u64, what: &str) -> Result<String, SimulatorError> {
        let mut units = Vec::new();
        for i in 0..260 {
            let unit = self.read_argument(address.wrapping_add(2 * i), 2, what)?;
            match u16::from_le_bytes([unit[0], unit[1]]) {
                0 => return Ok(String::from_utf16_lossy(&units)),
                unit => units.push(unit),
            }
        }
        Err(self.broken(Rule::QueryTable, format!("{what} does not end")))
    }

    fn query_registry_values(&mut self, base: u64, path: u64, table: u64, context: u64) -> Result<u32, SimulatorError> {
        if self.activities.last() != Some(&Activity::DriverEntry) {
            return Err(self.broken(Rule::UnexpectedCall, "RtlQueryRegistryValues outside of DriverEntry"));
        }
        if base as u32 != 0 {
            return Err(self.broken(Rule::QueryTable, format!("RelativeTo is {}, not ABSOLUTE", base as u32)));
        }
        let key = self.read_utf16(path, "the registry path")?;
        if key != REGISTRY_PATH {
            return Err(self.broken(
                Rule::QueryTable,
                format!("the path is {key:?}, not the driver's own key"),
            ));
        }
        let mut subkey: Option<String> = None;
        for index in 0..32u64 {
            let row: QueryRow = self
                .memory
                .read_as(
                    table.wrapping_add(56 * index),
                    &format!("row {index} of the query table"),
                )
                .map_err(|v| self.refuse(v))?;
            let (routine, flags, name) = (row.routine.get(), row.flags.get(), row.name.get());
            let bad = |kernel: &Kernel, what: String| kernel.broken(Rule::QueryTable, format!("row {index}: {what}"));
            if routine == 0 && name == 0 {
                if flags != 0 {
                    return Err(bad(self, format!("the terminator has flags {flags:#x}")));
                }
                return Ok(STATUS_SUCCESS);
            }
            if flags & !(QUERY_SUBKEY | QUERY_REQUIRED) != 0 {
                return Err(bad(self, format!("flags {flags:#x} are not those of a native module")));
            }
            let name = self.read_utf16(name, &format!("the name in row {index}"))?;
            if flags & QUERY_SUBKEY != 0 {
                if name != "Parameters" {
                    return Err(bad(self, format!("there is no subkey {name:?}")));
                }
                if routine != 0 {
                    return Err(bad(self, "a routine is given for the subkey itself".into()));
                }
                subkey = Some(name);
                continue;
            }
            if !self.image.is_code(routine) {
                return Err(bad(self, format!("the routine is {}", self.memory.place(routine))));
            }
            let here = subkey.as_deref() == Some("Parameters") && name.eq_ignore_ascii_case("NpiModuleId");
            if !here || self.request.sabotage == Sabotage::ModuleIdMissing {
                if flags & QUERY_REQUIRED != 0 {
                    return Ok(STATUS_OBJECT_NAME_NOT_FOUND);
                }
                if row.default_type.get() != 0 {
                    return Err(bad(self, "a default is given for the module id".into()));
                }
                continue;
            }
            let (kind, data): (u32, &[u8]) = match self.request.sabotage {
                Sabotage::ModuleIdWrongType => (REG_SZ, &MODULE_GUID),
                Sabotage::ModuleIdWrongLength => (REG_BINARY, &MODULE_GUID[..15]),
                _ => (REG_BINARY, &MODULE_GUID),
            };
            let value_name = self.allocate_bytes(&utf16("NpiModuleId"), "the name of the registry value")?;
            let value = self.allocate_bytes(data, "the data of the registry value")?;
            let arguments = [
                value_name,
                kind.into(),
                value,
                data.len() as u64,
                context,
                row.entry_context.get(),
            ];
            let status = self.call(routine, &arguments, Activity::QueryRoutine)? as u32;
            if kind != REG_BINARY || data.len() != 16 {
                if status != STATUS_INVALID_PARAMETER {
                    return Err(self.broken(
                        Rule::ModuleId,
                        format!(
                            "the query routine returned {status:#010x} for type {kind} with {} bytes",
                            data.len()
                        ),
                    ));
                }
            } else if status != STATUS_SUCCESS {
                return Err(self.broken(Rule::ModuleId, format!("the query routine returned {status:#010x}")));
            }
            self.memory.free(value_name);
            self.memory.free(value);
            if status != STATUS_SUCCESS {
                return Ok(status);
            }
        }
        Err(self.broken(Rule::QueryTable, "the query table does not end"))
    }

    fn register_client(&mut self, address: u64, context: u64, handle_out: u64) -> Result<u32, SimulatorError> {
        if self.activities.last() != Some(&Activity::DriverEntry) || self.nmr.client.is_some() {
            return Err(self.broken(
                Rule::UnexpectedCall,
                "NmrRegisterClient outside of DriverEntry, or twice",
            ));
        }
        let c: ClientCharacteristics = self
            .memory
            .read_as(address, "the client characteristics")
            .map_err(|v| self.refuse(v))?;
        let mut wrong = Vec::new();
        let mut expect = |name: &str, is: u64, should: u64| {
            if is != should {
                wrong.push(format!("{name} is {is}, not {should}"));
            }
        };
        expect("Version", c.version.get().into(), 0);
        expect("Length", c.length.get().into(), 72);
        expect("the instance's Version", c.instance_version.get().into(), 0);
        expect("the instance's Size", c.instance_size.get().into(), 40);
        expect("the instance's Number", c.number.get().into(), 0);
        if c.specific.get() != 0 {
            wrong.push("NpiSpecificCharacteristics are given".into());
        }
        for (name, pointer, optional) in [
            ("ClientAttachProvider", c.attach.get(), false),
            ("ClientDetachProvider", c.detach.get(), false),
            ("ClientCleanupBindingContext", c.cleanup.get(), true),
        ] {
            if !(optional && pointer == 0 || self.image.is_code(pointer)) {
                wrong.push(format!("{name} is {}", self.memory.place(pointer)));
            }
        }
        let npi = self.memory.read(c.npi_id.get(), 16);
        if npi.as_deref() != Some(&NPI_ID) {
            wrong.push(format!(
                "NpiId at {} is not the NPI of native modules",
                self.memory.place(c.npi_id.get())
            ));
        }
        if !wrong.is_empty() {
            return Err(self.broken(Rule::ClientCharacteristics, wrong.join("; ")));
        }
        let id: ModuleId = self
            .memory
            .read_as(c.module_id.get(), "the module id")
            .map_err(|v| self.refuse(v))?;
        if id.length.get() != 24 || id.id_type.get() != 1 {
            let (length, kind) = (id.length.get(), id.id_type.get());
            return Err(self.broken(
                Rule::ModuleId,
                format!("the module id has length {length} and type {kind}"),
            ));
        }
        if id.guid != MODULE_GUID {
            return Err(self.broken(Rule::ModuleId, "the module id is not the one in the registry"));
        }
        if context != 0 {
            return Err(self.broken(Rule::ClientCharacteristics, "a client context is given"));
        }
        if self.request.sabotage == Sabotage::RegisterClientFails {
            return Ok(STATUS_UNSUCCESSFUL);
        }
        let handle = self.opaque_handle("the NMR client handle")?;
        self.nmr.client = Some(Client {
            handle,
            attach: c.attach.get(),
            detach: c.detach.get(),
            context,
        });
        // Providers that are there already are offered before registration returns, and before the handle is stored.
        self.attach()?;
        if self.request.sabotage == Sabotage::None {
            if !self.nmr.attached {
                return Err(self.broken(Rule::ClientAttach, "the attach callback did not attach to the provider"));
            }
            self.offer_second_provider()?;
        }
        self.write_argument(handle_out, &handle.to_le_bytes(), "the client handle")?;
        Ok(STATUS_SUCCESS)
    }

    /// The provider's registration instance, as the client's attach callback sees it.
    fn provider_instance(&mut self) -> Result<u64, SimulatorError> {
        let mut id: ModuleId = zerocopy::FromZeros::new_zeroed();
        id.length.set(24);
        id.id_type.set(1);
        id.guid = PROVIDER_GUID;
        let id = self.allocate_bytes(zerocopy::IntoBytes::as_bytes(&id), "the provider's module id")?;
        let npi = self.allocate_bytes(&NPI_ID, "the provider's NPI id")?;
        let mut instance = [0u8; 40];
        instance[2..4].copy_from_slice(&40u16.to_le_bytes());
        instance[8..16].copy_from_slice(&npi.to_le_bytes());
        instance[16..24].copy_from_slice(&id.to_le_bytes());
        self.allocate_bytes(&instance, "the provider's registration instance")
    }

    fn attach(&mut self) -> Result<(), SimulatorError> {
        let Some((attach, context)) = self.nmr.client.as_ref().map(|c| (c.attach, c.context)) else {
            return Ok(());
        };
        self.nmr.binding = self.opaque_handle("the NMR binding handle")?;
        self.nmr.offering = Offer::Open;
        let instance = self.provider_instance()?;
        let status = self.call(attach, &[self.nmr.binding, context, instance], Activity::Attach)? as u32;
        let taken = std::mem::take(&mut self.nmr.offering) == Offer::Taken;
        let due = if self.request.sabotage == Sabotage::AttachProviderFails {
            STATUS_NOINTERFACE
        } else {
            STATUS_SUCCESS
        };
        if !taken {
            return Err(self.broken(
                Rule::ClientAttach,
                format!("the attach callback returned {status:#010x} without NmrClientAttachProvider"),
            ));
        }
        if status != due {
            return Err(self.broken(
                Rule::ClientAttach,
                format!("the attach callback returned {status:#010x} where NmrClientAttachProvider gave {due:#010x}"),
            ));
        }
        self.nmr.attached = status == STATUS_SUCCESS;
        Ok(())
    }

    /// A client that has its provider must refuse another one.
    fn offer_second_provider(&mut self) -> Result<(), SimulatorError> {
        let Some((attach, context)) = self.nmr.client.as_ref().map(|c| (c.attach, c.context)) else {
            return Ok(());
        };
        let second = self.opaque_handle("a second NMR binding handle")?;
        let instance = self.provider_instance()?;
        self.nmr.offering = Offer::Second;
        let status = self.call(attach, &[second, context, instance], Activity::Attach)? as u32;
        self.nmr.offering = Offer::None;
        if status != STATUS_INVALID_PARAMETER {
            return Err(self.broken(
                Rule::ClientAttach,
                format!("a second provider was answered with {status:#010x}"),
            ));
        }
        Ok(())
    }

    fn detach(&mut self) -> Result<(), SimulatorError> {
        let Some(detach) = self.nmr.client.as_ref().map(|c| c.detach) else {
            return Ok(());
        };
        // NmrClientAttachProvider was given NULL as binding context.
        let status = self.call(detach, &[0], Activity::Detach)? as u32;
        if status != STATUS_SUCCESS {
            return Err(self.broken(
                Rule::ClientDetach,
                format!("the detach callback returned {status:#010x}"),
            ));
        }
        self.nmr.attached = false;
        Ok(())
    }

    fn client_attach_provider(&mut self, a: [u64; 5]) -> Result<u32, SimulatorError> {
        let [binding, context, dispatch, context_out, dispatch_out] = a;
        match (self.activities.last(), self.nmr.offering) {
            (Some(Activity::Attach), Offer::Open) => {}
            (Some(Activity::Attach), Offer::Second) => {
                return Err(self.broken(Rule::ClientAttach, "a second provider was attached to"));
            }
            _ => {
                return Err(self.broken(
                    Rule::UnexpectedCall,
                    "NmrClientAttachProvider outside of an attach callback",
                ));
            }
        }
        if binding != self.nmr.binding {
            let place = self.memory.place(binding);
            return Err(self.broken(Rule::ClientAttach, format!("the binding handle passed on is {place}")));
        }
        if context != 0 {
            return Err(self.broken(Rule::ClientAttach, "a binding context is given"));
        }
        self.nmr.offering = Offer::Taken;
        self.write_argument(context_out, &0u64.to_le_bytes(), "the provider's binding context")?;
        self.write_argument(dispatch_out, &0u64.to_le_bytes(), "the provider's dispatch table")?;
        if self.request.sabotage == Sabotage::AttachProviderFails {
            return Ok(STATUS_NOINTERFACE);
        }
        let shown = self.read_metadata(dispatch)?;
        match &self.nmr.tables {
            None => self.nmr.tables = Some(shown),
            Some(before) if *before == shown => {}
            Some(_) => return Err(self.broken(Rule::UnstableMetadata, "other tables are shown at the second attach")),
        }
        let provider = self.opaque_handle("the provider's binding context")?;
        self.write_argument(context_out, &provider.to_le_bytes(), "the provider's binding context")?;
        Ok(STATUS_SUCCESS)
    }

    /// Every check of the provider's attach callback, in its order.
    fn read_metadata(&mut self, dispatch: u64) -> Result<(Tables, (u32, u32, u32)), SimulatorError> {
        if dispatch == 0 {
            return Err(self.broken(Rule::MetadataTable, "no metadata table is offered"));
        }
        let size = self.memory.read_u64(dispatch).ok_or_else(|| {
            self.broken(
                Rule::WildPointer,
                format!("the metadata table is {}", self.memory.place(dispatch)),
            )
        })?;
        let mut copy = [0u8; 56];
        let length = size.min(56) as usize;
        let bytes = self.read_argument(dispatch, length as u64, "the metadata table")?;
        copy[..length].copy_from_slice(&bytes);
        let table: MetadataTable = zerocopy::FromBytes::read_from_bytes(&copy)
            .map_err(|_| self.broken(Rule::MetadataTable, "the metadata table has another size"))?;
        kernel_tables::check_metadata(&table).map_err(|v| self.refuse(v))?;

        let version = self.allocate(12, "the version", Use::Kernel)?;
        self.metadata_function("version", table.version.get(), &[version])?;
        let stated: Version = self
            .memory
            .read_as(version, "the version")
            .map_err(|v| self.refuse(v))?;
        self.memory.free(version);
        let stated = kernel_tables::check_version(&stated).map_err(|v| self.refuse(v))?;

        let mut tables = Tables::default();
        let array = self.metadata_array("programs", table.programs.get())?;
        tables.programs = kernel_tables::read_programs(&self.memory, array).map_err(|v| self.refuse(v))?;
        let array = self.metadata_array("maps", table.maps.get())?;
        tables.maps = kernel_tables::read_maps(&self.memory, array).map_err(|v| self.refuse(v))?;
        let array = self.metadata_array("map_initial_values", table.initial_values.get())?;
        tables.initial_values = kernel_tables::read_initial_values(&self.memory, array).map_err(|v| self.refuse(v))?;
        let array = self.metadata_array("global_variable_sections", table.global_sections.get())?;
        tables.global_sections =
            kernel_tables::read_global_sections(&self.memory, array).map_err(|v| self.refuse(v))?;
        // The kernel never calls the hash getter, but a module must have it (user mode tools do).
        if table.hash.get() != 0 {
            let array = self.metadata_array("hash", table.hash.get())?;
            if array.count > 0 && self.memory.read(array.pointer, array.count.min(64) as usize).is_none() {
                let place = self.memory.place(array.pointer);
                return Err(self.broken(Rule::WildPointer, format!("the ELF hash points to {place}")));
            }
        }
        Ok((tables, stated))
    }

    /// Calls a getter twice: it must say the same each time.
    fn metadata_array(&mut self, name: &'static str, function: u64) -> Result<Array, SimulatorError> {
        let mut seen = None;
        for _ in 0..2 {
            let out = self.allocate_bytes(&[0xA5; 16], "the results of a metadata function")?;
            self.metadata_function(name, function, &[out, out + 8])?;
            let array = Array {
                pointer: self.memory.read_u64(out).unwrap_or(0),
                count: self.memory.read_u64(out + 8).unwrap_or(0),
            };
            self.memory.free(out);
            if seen.replace(array).is_some_and(|before| before != array) {
                return Err(self.broken(Rule::UnstableMetadata, format!("{name} gives two different answers")));
            }
        }
        Ok(seen.unwrap_or_default())
    }

    fn metadata_function(&mut self, name: &'static str, function: u64, out: &[u64]) -> Result<(), SimulatorError> {
        if !self.image.is_code(function) {
            let place = self.memory.place(function);
            return Err(self.broken(Rule::WildPointer, format!("the metadata function {name} is {place}")));
        }
        self.call(function, out, Activity::Metadata(name)).map(drop)
    }

    fn deregister_client(&mut self, handle: u64) -> Result<u32, SimulatorError> {
        if self.activities.last() != Some(&Activity::Unload) {
            return Err(self.broken(Rule::UnexpectedCall, "NmrDeregisterClient outside of DriverUnload"));
        }
        if self.nmr.client.as_ref().map(|c| c.handle) != Some(handle) {
            let place = self.memory.place(handle);
            return Err(self.broken(Rule::DriverUnload, format!("NmrDeregisterClient is given {place}")));
        }
        if self.nmr.attached {
            self.detach()?;
        }
        // The provider holds the module until its last reference is gone: always pending. The handle stays valid
        // until that is awaited.
        self.nmr.binding = handle;
        self.nmr.client = None;
        Ok(STATUS_PENDING)
    }

    fn wait_for_deregister(&mut self, handle: u64) -> Result<u32, SimulatorError> {
        if self.activities.last() != Some(&Activity::Unload) || self.nmr.client.is_some() || self.nmr.waited {
            return Err(self.broken(
                Rule::UnexpectedCall,
                "NmrWaitForClientDeregisterComplete without a pending one",
            ));
        }
        if handle != self.nmr.binding {
            let place = self.memory.place(handle);
            return Err(self.broken(
                Rule::DriverUnload,
                format!("NmrWaitForClientDeregisterComplete is given {place}"),
            ));
        }
        self.nmr.waited = true;
        Ok(STATUS_SUCCESS)
    }
}

/// The kernel stack: readable and writable pages between guard pages.
pub fn make_stack(memory: &mut super::memory::Memory, bytes: u32) -> Result<super::kernel::Stack, SimulatorError> {
    let length = (bytes as usize).clamp(2 * PAGE, 1 << 20).next_multiple_of(PAGE);
    let bottom = memory
        .allocate(length, PAGE, "the kernel stack", Use::ReadWrite)
        .map_err(|OutOfMemory| no_memory("the kernel stack"))?;
    Ok(super::kernel::Stack {
        bottom,
        top: bottom + length as u64,
    })
}
