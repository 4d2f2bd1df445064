//! Stand-ins for the Network Module Registrar: registration, attach and detach (native module contract §2.2, §2.3).

use super::kernel::{Activity, Kernel};
use super::status;
use super::system::Module;
use crate::address_space::AddressSpace;
use crate::ebpf_result::EbpfResult;
use crate::error::SimulatorError;
use crate::failure::Sabotage;
use crate::kernel_tables::Tables;
use crate::rule::{Rule, Violation};
use crate::tables::{ClientCharacteristics, ModuleId};

/// NPI of native modules, c847aac8-a6f2-4b53-aea3-f4a94b9a80cb.
const NPI_ID: [u8; 16] = [
    0xc8, 0xaa, 0x47, 0xc8, 0xf2, 0xa6, 0x53, 0x4b, 0xae, 0xa3, 0xf4, 0xa9, 0x4b, 0x9a, 0x80, 0xcb,
];
/// Module id of ebpfcore, 5e24d2f5-f799-42c3-a945-87feefd930a7.
const PROVIDER_GUID: [u8; 16] = [
    0xf5, 0xd2, 0x24, 0x5e, 0x99, 0xf7, 0xc3, 0x42, 0xa9, 0x45, 0x87, 0xfe, 0xef, 0xd9, 0x30, 0xa7,
];

/// Registration and binding.
#[derive(Default)]
pub struct Nmr {
    /// The registered client.
    pub client: Option<Client>,
    /// The binding that is being offered or stands.
    binding: u64,
    /// Whether the client took it.
    pub attached: bool,
    offering: Offer,
    /// The client handle that was deregistered.
    pub deregistered: Option<u64>,
    /// What the driver was last told when it attached.
    pub attach_status: Option<u32>,
    /// What is wrong with the module, if the provider refused it for that.
    pub defect: Option<Violation>,
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

/// A registered client.
pub struct Client {
    handle: u64,
    attach: u64,
    detach: u64,
    context: u64,
}

impl Kernel {
    pub(super) fn register_client(
        &mut self,
        address: u64,
        context: u64,
        handle_out: u64,
    ) -> Result<u32, SimulatorError> {
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
        if id.guid != self.system.module_id {
            return Err(self.broken(Rule::ModuleId, "the module id is not the one in the registry"));
        }
        if context != 0 {
            return Err(self.broken(Rule::ClientCharacteristics, "a client context is given"));
        }
        if let Sabotage::RegisterClientFails(status) = self.request.sabotage {
            self.met();
            return Ok(status);
        }
        let handle = self.opaque_handle("the NMR client handle")?;
        self.nmr.client = Some(Client {
            handle,
            attach: c.attach.get(),
            detach: c.detach.get(),
            context,
        });
        // Providers that are there already are offered before registration returns, and before the handle is stored.
        if self.request.sabotage == Sabotage::ProviderMissing {
            self.met();
        } else {
            self.attach()?;
        }
        if self.nmr.attached {
            self.offer_second_provider()?;
        }
        self.write_argument(handle_out, &handle.to_le_bytes(), "the client handle")?;
        Ok(status::SUCCESS)
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

    pub(super) fn attach(&mut self) -> Result<(), SimulatorError> {
        let Some((attach, context)) = self.nmr.client.as_ref().map(|c| (c.attach, c.context)) else {
            return Ok(());
        };
        self.nmr.binding = self.opaque_handle("the NMR binding handle")?;
        self.nmr.offering = Offer::Open;
        let instance = self.provider_instance()?;
        let status = self.call(attach, &[self.nmr.binding, context, instance], Activity::Attach)? as u32;
        let taken = std::mem::take(&mut self.nmr.offering) == Offer::Taken;
        let due = self.nmr.attach_status.unwrap_or_default();
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
        self.nmr.attached = status == status::SUCCESS;
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
        if status != status::INVALID_PARAMETER {
            return Err(self.broken(
                Rule::ClientAttach,
                format!("a second provider was answered with {status:#010x}"),
            ));
        }
        Ok(())
    }

    pub(super) fn detach(&mut self) -> Result<(), SimulatorError> {
        let Some(detach) = self.nmr.client.as_ref().map(|c| c.detach) else {
            return Ok(());
        };
        // NmrClientAttachProvider was given NULL as binding context.
        let status = self.call(detach, &[0], Activity::Detach)? as u32;
        if status != status::SUCCESS {
            return Err(self.broken(
                Rule::ClientDetach,
                format!("the detach callback returned {status:#010x}"),
            ));
        }
        self.nmr.attached = false;
        self.release_module();
        Ok(())
    }

    pub(super) fn client_attach_provider(&mut self, a: [u64; 5]) -> Result<u32, SimulatorError> {
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
        let status = match self.request.sabotage {
            Sabotage::AttachProviderFails(status) => {
                self.met();
                status
            }
            _ => self.take_module(dispatch)?.ntstatus(),
        };
        self.nmr.attach_status = Some(status);
        if status == status::SUCCESS {
            let provider = self.opaque_handle("the provider's binding context")?;
            self.write_argument(context_out, &provider.to_le_bytes(), "the provider's binding context")?;
        }
        Ok(status)
    }

    /// The provider's attach callback: what it answers to a module (native module contract §4.1).
    fn take_module(&mut self, dispatch: u64) -> Result<EbpfResult, SimulatorError> {
        if self.request.sabotage == Sabotage::AttachNoMemory {
            self.met();
            return Ok(EbpfResult::NoMemory);
        }
        let shown = match self.read_metadata(dispatch) {
            Ok(shown) => shown,
            Err(SimulatorError::Kernel { during, violation }) => match EbpfResult::at_attach(violation.rule) {
                Some(result) if self.request.defects_are_answers => {
                    self.met();
                    self.nmr.defect = Some(violation);
                    return Ok(result);
                }
                _ => return Err(SimulatorError::Kernel { during, violation }),
            },
            Err(other) => return Err(other),
        };
        match &self.nmr.tables {
            None => self.nmr.tables = Some(shown),
            Some(before) if *before == shown => {}
            Some(_) => return Err(self.broken(Rule::UnstableMetadata, "other tables are shown at the second attach")),
        }
        if !self.is_authorised() {
            self.met();
            return Ok(EbpfResult::VerificationFailed);
        }
        if self.attached_module().is_some() {
            self.met();
            return Ok(EbpfResult::ObjectAlreadyExists);
        }
        let id = self.system.module_id;
        self.system.modules.push(Module {
            id,
            initialized: false,
            references: 1,
        });
        Ok(EbpfResult::Success)
    }

    pub(super) fn deregister_client(&mut self, handle: u64) -> Result<u32, SimulatorError> {
        if self.activities.last() != Some(&Activity::Unload) {
            return Err(self.broken(Rule::UnexpectedCall, "NmrDeregisterClient outside of DriverUnload"));
        }
        if self.nmr.client.as_ref().map(|c| c.handle) != Some(handle) || self.nmr.deregistered.is_some() {
            let place = self.memory.place(handle);
            return Err(self.broken(Rule::DriverUnload, format!("NmrDeregisterClient is given {place}")));
        }
        if self.nmr.attached {
            self.detach()?;
        }
        self.nmr.deregistered = Some(handle);
        if self.request.sabotage == Sabotage::DeregisteredAtOnce {
            self.met();
            self.nmr.client = None;
            return Ok(status::SUCCESS);
        }
        // Otherwise it is always pending, and the handle stays valid until the end is awaited.
        Ok(status::PENDING)
    }

    pub(super) fn wait_for_deregister(&mut self, handle: u64) -> Result<u32, SimulatorError> {
        let pending = self.nmr.client.is_some() && self.nmr.deregistered.is_some();
        if self.activities.last() != Some(&Activity::Unload) || !pending {
            return Err(self.broken(
                Rule::UnexpectedCall,
                "NmrWaitForClientDeregisterComplete without a pending one",
            ));
        }
        if self.nmr.deregistered != Some(handle) {
            let place = self.memory.place(handle);
            return Err(self.broken(
                Rule::DriverUnload,
                format!("NmrWaitForClientDeregisterComplete is given {place}"),
            ));
        }
        if self.request.sabotage == Sabotage::UnloadedInUse {
            // The provider holds the module until the last reference is gone, which others drop in the meantime.
            self.met();
            self.close_handles();
        }
        self.nmr.client = None;
        Ok(status::SUCCESS)
    }
}
