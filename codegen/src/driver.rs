//! The data of the driver around the programs, and what it imports.
//!
//! Its code is `templates/driver.clif`; here are the structures that it names (native module contract §2.2).

use bpf2sys_pe_emit::SectionIndex;
use std::mem::{offset_of, size_of};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use crate::LowerError;
use crate::compile::Target;
use crate::object::{ObjectWriter, Spot};

/// What the driver imports (contract §2.1).
const IMPORTS: [(&str, &str); 5] = [
    ("ntoskrnl.exe", "RtlQueryRegistryValues"),
    ("NETIO.SYS", "NmrRegisterClient"),
    ("NETIO.SYS", "NmrDeregisterClient"),
    ("NETIO.SYS", "NmrWaitForClientDeregisterComplete"),
    ("NETIO.SYS", "NmrClientAttachProvider"),
];

/// The network programming interface of native eBPF modules: c847aac8-a6f2-4b53-aea3-f4a94b9a80cb.
const NPI_ID: [u8; 16] = [
    0xC8, 0xAA, 0x47, 0xC8, 0xF2, 0xA6, 0x53, 0x4B, 0xAE, 0xA3, 0xF4, 0xA9, 0x4B, 0x9A, 0x80, 0xCB,
];

type Pointer = U64;

/// `NPI_MODULEID`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct NpiModuleId {
    length: U16,
    padding: [u8; 2],
    /// `MIT_GUID`.
    kind: U32,
    /// Filled in by the query routine.
    guid: [u8; 16],
}

/// `NPI_REGISTRATION_INSTANCE`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct NpiRegistrationInstance {
    version: U16,
    size: U16,
    padding0: [u8; 4],
    npi_id: Pointer,
    module_id: Pointer,
    number: U32,
    padding1: [u8; 4],
    npi_specific_characteristics: Pointer,
}

/// `NPI_CLIENT_CHARACTERISTICS`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct NpiClientCharacteristics {
    version: U16,
    length: U16,
    padding: [u8; 4],
    attach_provider: Pointer,
    detach_provider: Pointer,
    cleanup_binding_context: Pointer,
    registration: NpiRegistrationInstance,
}

/// `RTL_QUERY_REGISTRY_TABLE`.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct QueryRow {
    query_routine: Pointer,
    flags: U32,
    padding0: [u8; 4],
    name: Pointer,
    entry_context: Pointer,
    default_type: U32,
    padding1: [u8; 4],
    default_data: Pointer,
    default_length: U32,
    padding2: [u8; 4],
}

const _: () = {
    assert!(size_of::<NpiModuleId>() == 24);
    assert!(size_of::<NpiRegistrationInstance>() == 40);
    assert!(size_of::<NpiClientCharacteristics>() == 72);
    assert!(size_of::<QueryRow>() == 56 && offset_of!(QueryRow, name) == 16);
};

const RTL_QUERY_REGISTRY_SUBKEY: u32 = 1;
const RTL_QUERY_REGISTRY_REQUIRED: u32 = 4;
const MIT_GUID: u32 = 1;

/// Declares what the driver's code imports.
pub(crate) fn add_imports(object: &mut ObjectWriter) {
    for (module, function) in IMPORTS {
        object.import(module, function);
    }
}

/// Adds the driver's data: constants to `constants`, variables to `variables`. Its code must be there already.
pub(crate) fn add_data(
    object: &mut ObjectWriter,
    constants: SectionIndex,
    variables: SectionIndex,
) -> Result<(), LowerError> {
    let module_id = object.structure(
        variables,
        &NpiModuleId {
            length: U16::new(size_of::<NpiModuleId>() as u16),
            padding: [0; 2],
            kind: U32::new(MIT_GUID),
            guid: [0; 16],
        },
    );
    object.define("module_id", module_id);
    for handle in ["client_handle", "binding_handle"] {
        let spot = object.structure(variables, &U64::ZERO);
        object.define(handle, spot);
    }
    add_characteristics(object, constants, module_id)?;
    add_query_table(object, constants)
}

fn add_characteristics(object: &mut ObjectWriter, constants: SectionIndex, module_id: Spot) -> Result<(), LowerError> {
    let npi_id = object.bytes(constants, 8, &NPI_ID);
    let spot = object.structure(
        constants,
        &NpiClientCharacteristics {
            version: U16::ZERO,
            length: U16::new(size_of::<NpiClientCharacteristics>() as u16),
            padding: [0; 4],
            attach_provider: Pointer::ZERO,
            detach_provider: Pointer::ZERO,
            cleanup_binding_context: Pointer::ZERO,
            registration: NpiRegistrationInstance {
                version: U16::ZERO,
                size: U16::new(size_of::<NpiRegistrationInstance>() as u16),
                padding0: [0; 4],
                npi_id: Pointer::ZERO,
                module_id: Pointer::ZERO,
                number: U32::ZERO,
                padding1: [0; 4],
                npi_specific_characteristics: Pointer::ZERO,
            },
        },
    );
    let registration = spot.field(offset_of!(NpiClientCharacteristics, registration));
    point_to_code(
        object,
        spot.field(offset_of!(NpiClientCharacteristics, attach_provider)),
        "attach_provider",
    )?;
    point_to_code(
        object,
        spot.field(offset_of!(NpiClientCharacteristics, detach_provider)),
        "detach_provider",
    )?;
    object.point(
        registration.field(offset_of!(NpiRegistrationInstance, npi_id)),
        object.address(npi_id),
    );
    object.point(
        registration.field(offset_of!(NpiRegistrationInstance, module_id)),
        object.address(module_id),
    );
    object.define("client_characteristics", spot);
    Ok(())
}

/// `Parameters\NpiModuleId` of the driver's service key, which must be there.
fn add_query_table(object: &mut ObjectWriter, constants: SectionIndex) -> Result<(), LowerError> {
    let rows = [
        (RTL_QUERY_REGISTRY_SUBKEY, "Parameters", None),
        (RTL_QUERY_REGISTRY_REQUIRED, "NpiModuleId", Some("query_routine")),
    ];
    let names: Vec<Spot> = rows
        .iter()
        .map(|(_, name, _)| object.bytes(constants, 2, &wide(name)))
        .collect();
    for (position, ((flags, _, routine), name)) in rows.into_iter().zip(names).enumerate() {
        let row = QueryRow {
            flags: U32::new(flags),
            ..QueryRow::default()
        };
        let spot = object.structure(constants, &row);
        object.point(spot.field(offset_of!(QueryRow, name)), object.address(name));
        if let Some(routine) = routine {
            point_to_code(object, spot.field(offset_of!(QueryRow, query_routine)), routine)?;
        }
        if position == 0 {
            object.define("query_table", spot);
        }
    }
    object.structure(constants, &QueryRow::default()); // the terminator
    Ok(())
}

fn point_to_code(object: &mut ObjectWriter, field: Spot, name: &str) -> Result<(), LowerError> {
    let address = object.address_of(&Target::Named(name.to_owned()))?;
    object.point(field, address);
    Ok(())
}

/// NUL-terminated UTF-16.
fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use bpf2sys_pe_emit::Purpose;

    use crate::testing::{EXIT, View, lower, mov, one};

    #[test]
    fn the_client_characteristics_have_the_layout_of_the_ddk() {
        let object = lower(one(&[mov(0, 0), EXIT])).unwrap();
        let view = View(&object);
        let (section, at) = view.symbol("client_characteristics");
        assert_eq!(section, ".rdata");
        let field = |offset| (section, at + offset);
        assert_eq!(view.number(field(0), 8), 72 << 16); // Version 0, Length 72
        assert_eq!(view.pointer(field(8)), Some(view.symbol("attach_provider")));
        assert_eq!(view.pointer(field(16)), Some(view.symbol("detach_provider")));
        assert_eq!(view.pointer(field(24)), None);
        assert_eq!(view.number(field(32), 8), 40 << 16);
        let npi = view.pointer(field(40)).unwrap();
        let guid = bpf2sys_platform::Guid(view.bytes(npi, 16).try_into().unwrap());
        assert_eq!(guid.to_string(), "c847aac8-a6f2-4b53-aea3-f4a94b9a80cb");
        assert_eq!(view.pointer(field(48)), Some(view.symbol("module_id")));
        assert_eq!(view.number(field(56), 8), 0);
        assert_eq!(view.pointer(field(64)), None);
    }

    #[test]
    fn variables_are_writable_and_start_as_the_contract_says() {
        let object = lower(one(&[mov(0, 0), EXIT])).unwrap();
        let view = View(&object);
        let id = view.symbol("module_id");
        assert_eq!(id.0, ".data");
        assert_eq!(view.bytes(id, 8), [24, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(view.bytes((id.0, id.1 + 8), 16), [0; 16]);
        for handle in ["client_handle", "binding_handle"] {
            let at = view.symbol(handle);
            assert_eq!((at.0, view.number(at, 8), at.1 % 8), (".data", 0, 0));
        }
        assert_eq!(view.section(".data").kind, bpf2sys_pe_emit::SectionKind::Data);
    }

    #[test]
    fn the_query_table_asks_for_the_module_id_under_parameters() {
        let object = lower(one(&[mov(0, 0), EXIT])).unwrap();
        let view = View(&object);
        let (section, at) = view.symbol("query_table");
        let wide = |row: usize| {
            let (section, at) = view.pointer((section, at + 56 * row + 16)).unwrap();
            let units = view.section(section).data[at..]
                .as_chunks::<2>()
                .0
                .iter()
                .map(|c| u16::from_le_bytes(*c));
            String::from_utf16(&units.take_while(|unit| *unit != 0).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!((wide(0).as_str(), wide(1).as_str()), ("Parameters", "NpiModuleId"));
        assert_eq!(view.number((section, at + 8), 4), 1);
        assert_eq!(view.number((section, at + 56 + 8), 4), 4);
        assert_eq!(view.pointer((section, at)), None);
        assert_eq!(view.pointer((section, at + 56)), Some(view.symbol("query_routine")));
        assert_eq!(view.bytes((section, at + 112), 56), [0; 56]);
        assert_eq!(view.pointer((section, at + 112 + 16)), None);
    }

    #[test]
    fn the_entry_point_is_driver_entry_and_imports_are_those_of_the_contract() {
        let object = lower(one(&[mov(0, 0), EXIT])).unwrap();
        let Purpose::Driver { entry } = object.purpose else {
            panic!("{:?}", object.purpose)
        };
        assert_eq!(object.symbols[entry.0 as usize].name, "DriverEntry");
        let imports: Vec<String> = object
            .imports
            .iter()
            .map(|i| format!("{}!{}", i.module, i.function))
            .collect();
        let expected = [
            "ntoskrnl.exe!RtlQueryRegistryValues",
            "NETIO.SYS!NmrRegisterClient",
            "NETIO.SYS!NmrDeregisterClient",
            "NETIO.SYS!NmrWaitForClientDeregisterComplete",
            "NETIO.SYS!NmrClientAttachProvider",
        ];
        assert_eq!(imports, expected);
    }

    #[test]
    fn a_program_may_have_the_name_of_a_driver_function() {
        let mut module = one(&[mov(0, 0), EXIT]);
        module.functions[0].name = "DriverEntry".to_owned();
        let object = lower(module).unwrap();
        let entry = object.symbols[object.purpose.entry().unwrap().0 as usize].place;
        let view = View(&object);
        let function = view.pointer(("programs", 32)).unwrap();
        assert_eq!(function.0, "bind");
        let bpf2sys_pe_emit::SymbolPlace::Section { section, .. } = entry else {
            panic!()
        };
        assert_eq!(object.sections[section.0 as usize].name, ".text");
    }
}
