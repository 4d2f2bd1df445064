//! What makes a driver that of a native module: the data by which it registers with the network module registrar (native
//! module contract §2.2).

use bpf2sys_simulator::image::{Rva, Section};

use crate::rule::{Group, Rule, Scope, Verdict, Wrong};
use crate::subject::{NPI_ID, Subject};

const SOURCE: &str = "native module contract §2.2";

/// Offsets in `NPI_CLIENT_CHARACTERISTICS`, with the `NPI_REGISTRATION_INSTANCE` that it ends with.
mod field {
    pub(super) const LENGTH: u32 = 2;
    pub(super) const ATTACH: u32 = 8;
    pub(super) const DETACH: u32 = 16;
    pub(super) const CLEANUP: u32 = 24;
    pub(super) const INSTANCE_SIZE: u32 = 34;
    pub(super) const NPI_ID: u32 = 40;
    pub(super) const MODULE_ID: u32 = 48;
    pub(super) const END: usize = 72;
}

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::LifeCycle, Scope::ModuleDriver, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.2.2.npi",
        [
            "a relocated pointer leads to the id of the interface between modules and the runtime",
            "the driver registers as a client of something else, or of nothing",
        ],
        |s| match characteristics(s) {
            Some(rva) => Verdict::Pass(format!("client characteristics at {}", s.place(rva))),
            None if s.relocations.is_err() => Verdict::none("the relocations can't be read"),
            None => Verdict::Fail("no pointer does".into()),
        },
    ),
    rule(
        "contract.2.2.characteristics",
        [
            "the client characteristics have version 0, length 72 and an instance of version 0, size 40",
            "NmrRegisterClient refuses them",
        ],
        |s| {
            of(s, |rva| {
                let half = |offset: u32| {
                    let bytes = s.image.file_bytes(Rva(rva.0 + offset), 2)?;
                    Some(u16::from_le_bytes(bytes.try_into().ok()?))
                };
                let found = [0, field::LENGTH, 32, field::INSTANCE_SIZE].map(|at| half(at).unwrap_or(u16::MAX));
                let [version, length, instance, size] = found;
                let text = format!("version {version}, length {length}, instance version {instance}, size {size}");
                Verdict::when(found == [0, 72, 0, 40], text)
            })
        },
    ),
    rule(
        "contract.2.2.callbacks",
        [
            "attach and detach callbacks are relocated pointers to code, and there is no clean-up callback",
            "they are called when the runtime offers its interface, and when it goes",
        ],
        |s| {
            of(s, |rva| {
                let at = |offset: u32| Rva(rva.0 + offset);
                let value = |offset: u32| s.u64_at(at(offset)).unwrap_or(0);
                let callback = |offset: u32| s.is_relocated(at(offset)) && s.is_code_address(value(offset));
                let kept = callback(field::ATTACH) && callback(field::DETACH) && value(field::CLEANUP) == 0;
                let places = [field::ATTACH, field::DETACH, field::CLEANUP].map(|offset| s.place_of(value(offset)));
                Verdict::when(kept, places.join(", "))
            })
        },
    ),
    rule(
        "contract.2.2.module-id",
        [
            "the module id is writable, says 24 bytes and that it is a GUID",
            "the driver puts the GUID from the registry there before it registers",
        ],
        |s| {
            of(s, |rva| {
                let address = s.u64_at(Rva(rva.0 + field::MODULE_ID)).unwrap_or(0);
                let id = s.image.rva_of(address);
                let section = id.and_then(|rva| s.image.section_at(rva));
                let writable = section.is_some_and(|section| section.has(Section::WRITE));
                let bytes = id.and_then(|rva| s.image.file_bytes(rva, 8)).unwrap_or_default();
                let kept = writable && bytes == [24, 0, 0, 0, 1, 0, 0, 0];
                Verdict::when(kept, format!("{bytes:02x?} in {}", s.place_of(address)))
            })
        },
    ),
    rule(
        "contract.2.2.query-table",
        [
            "a query table in data asks subkey Parameters for the required value NpiModuleId",
            "DriverEntry does not get its module id, and fails",
        ],
        query_table,
    ),
];

/// Where the client characteristics are: before a pointer to the interface's id.
fn characteristics(s: &Subject<'_>) -> Option<Rva> {
    let is_id = |address: u64| {
        let bytes = s.image.rva_of(address).and_then(|rva| s.image.file_bytes(rva, 16));
        bytes == Some(&NPI_ID)
    };
    let (field, _) = s.pointers().find(|(_, value)| is_id(*value))?;
    let start = Rva(field.0.checked_sub(field::NPI_ID)?);
    s.image.file_bytes(start, field::END).map(|_| start)
}

fn of(s: &Subject<'_>, judge: impl Fn(Rva) -> Verdict) -> Verdict {
    match characteristics(s) {
        Some(rva) => judge(rva),
        None => Verdict::none("there are no client characteristics"),
    }
}

/// Bytes of a row of the table.
const ROW: u32 = 56;
/// Offset of the name in a row.
const NAME: u32 = 16;
/// `RTL_QUERY_REGISTRY_SUBKEY` and `RTL_QUERY_REGISTRY_REQUIRED`.
const FLAGS: [u64; 2] = [1, 4];

fn query_table(s: &Subject<'_>) -> Verdict {
    let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect() };
    let (subkey, value) = (utf16("Parameters"), utf16("NpiModuleId"));
    let leads_to = |address: u64, text: &[u8]| {
        let rva = s.image.rva_of(address);
        rva.and_then(|rva| s.image.file_bytes(rva, text.len())) == Some(text)
    };
    let rows = s
        .pointers()
        .filter(|(_, address)| leads_to(*address, &subkey) || leads_to(*address, &value));
    let Some((first, address)) = { rows }.next() else {
        return Verdict::none("no table names them; the driver makes one when it runs");
    };
    // The table is where its first row is, or a row before the second if the first names something else.
    let back = if leads_to(address, &subkey) { NAME } else { NAME + ROW };
    let Some(start) = first.0.checked_sub(back) else {
        return Verdict::Fail(format!("a name at {first} without a table"));
    };
    let field = |row: u32, offset: u32| {
        s.u64_at(Rva(start.wrapping_add(ROW * row + offset)))
            .unwrap_or(u64::MAX)
    };
    let mut wrong = Wrong::default();
    if field(0, 0) != 0 || field(0, 8) & 0xFFFF_FFFF != FLAGS[0] || !leads_to(field(0, NAME), &subkey) {
        wrong.add(|| "the first row does not open the subkey".to_owned());
    }
    if !s.is_code_address(field(1, 0)) || field(1, 8) & 0xFFFF_FFFF != FLAGS[1] || !leads_to(field(1, NAME), &value) {
        wrong.add(|| "the second row does not ask for the value".to_owned());
    }
    if (0..ROW).step_by(8).any(|offset| field(2, offset) != 0) {
        wrong.add(|| "no empty row ends the table".to_owned());
    }
    Verdict::of(wrong, format!("two rows at {}", s.place(Rva(start))))
}
