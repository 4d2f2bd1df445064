//! The rules, in the order of the contract.

use bpf2sys_simulator::Rule;
use bpf2sys_simulator::image::DirectoryKind;

use super::Base::{Dll, Driver, EveryMap, Functions, Run};
use super::patching::{
    CODE, GLOBAL_SECTIONS, INITIAL_VALUES, MAPS, PROGRAMS, VERSION, add_section, as_rva, entry_returns_zero, export,
    exports, give, give_all, global, imports, initial, long_name, move_to_end, redirect, return_zero, shift_table,
    state_hash_of_functions, state_version, string, table, target,
};
use super::{Base, Row};
use crate::simulator_trials::shared::patch::Break;

const fn row(
    section: &'static str,
    demand: &'static str,
    broken: &'static str,
    base: Base,
    (rule, message): (Rule, &'static str),
    break_it: Break,
) -> Row {
    Row {
        section,
        demand,
        broken,
        base,
        rule,
        message,
        break_it,
    }
}

/// What the simulator must say.
const fn says(rule: Rule, message: &'static str) -> (Rule, &'static str) {
    (rule, message)
}

/// Rules that no broken image can show: section, rule, reason.
pub const UNSHOWN: &[(&str, &str, &str)] = &[
    (
        "0.10",
        "the file is authorised, and loaded within about ten seconds",
        "it is about when and by whom a file is loaded, not about the file; `failures.md` shows a file that is not authorised",
    ),
    (
        "4.1",
        "hash of the file, module id that is known already",
        "the same image is good or bad; `failures.md` shows them",
    ),
    (
        "4.1",
        "maps have names",
        "user mode, which reads first, refuses the same image: see §5.1, name of a map zero",
    ),
    (
        "4.2",
        "order of creation, a second load of the same module",
        "it is what the runtime does; `failures.md` shows the second load, and what is undone in which order",
    ),
    ("4.3", "pin paths have at most 255 bytes", "names have at most 63"),
    (
        "4.3",
        "a map that is pinned already has the same definition",
        "it is about what is in the system; `failures.md` shows it",
    ),
    (
        "4.7, 4.8",
        "providers are attached, and their prototypes are those of the hash",
        "it is about the providers; `failures.md` shows them missing and changed",
    ),
    ("5.1", "the file's name ends in .sys", "it is not in the file"),
    (
        "5.3",
        "the function of a program is in its code section",
        "nobody looks: the contract says so",
    ),
];

pub const ROWS: &[Row] = &[
    // ---- §0
    row(
        "0.1",
        "programs are sorted by name, bytewise",
        "names of two programs exchanged",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees programs"),
        |p| {
            let (a, b) = (p.program(0, 56), p.program(1, 56));
            let (first, second) = (p.u64(a), p.u64(b));
            redirect(p, a, second);
            redirect(p, b, first);
        },
    ),
    row(
        "0.2",
        "VirtualSize of maps is the table's size",
        "8 bytes more",
        Driver,
        says(Rule::UserModeMapTable, "no multiple of 80"),
        |p| {
            p.put(p.header("maps") + 8, &408u32.to_le_bytes());
        },
    ),
    row(
        "0.2",
        "VirtualSize of programs is the table's size",
        "16 bytes more",
        Driver,
        says(Rule::UserModeProgramTable, "no multiple of 160"),
        |p| {
            p.put(p.header("programs") + 8, &656u32.to_le_bytes());
        },
    ),
    row(
        "0.3",
        ".rdata precedes maps in the file",
        ".rdata moved to the end of the file",
        Driver,
        says(
            Rule::UserModeString,
            "is in .rdata; only .rdata, if it precedes, and maps",
        ),
        |p| move_to_end(p, ".rdata"),
    ),
    row(
        "0.4",
        "GUIDs are in a section called exactly .data",
        ".data called .dat",
        Driver,
        says(Rule::UserModeGuid, "program type of program 0 is not in .data"),
        |p| {
            p.put(p.header(".data"), b".dat\0\0\0\0");
        },
    ),
    row(
        "0.4",
        "program type and attach type are given",
        "attach type NULL",
        Driver,
        says(Rule::UserModeGuid, "attach type of program 2"),
        |p| p.pointer_away(p.program(2, 112)),
    ),
    row(
        "0.5",
        "each program has a section of code with its name",
        "code section renamed",
        Driver,
        says(Rule::UserModeCodeSection, "has no code section called xdp"),
        |p| {
            p.put(p.header("xdp"), b"pdx\0");
        },
    ),
    row(
        "0.5",
        "and exactly one",
        "a second code section of that name",
        Driver,
        says(Rule::UserModeCodeSection, "two code sections are called xdp"),
        |p| {
            add_section(p, *b"xdp\0\0\0\0\0", CODE, &[0xC3]);
        },
    ),
    row(
        "0.6",
        "pointers are addresses",
        "name of a program as RVA",
        Driver,
        says(Rule::UserModeString, "name of program 0 is in outside every section"),
        |p| as_rva(p, p.program(0, 56)),
    ),
    row(
        "0.6",
        "pointers have base relocations",
        "relocation of a program's helpers taken away",
        Driver,
        says(Rule::WildPointer, "the helpers of program 0"),
        |p| {
            let (at, old) = (p.program(0, 80), p.u64(p.program(0, 80)));
            p.pointer_away(at);
            redirect(p, at, old);
        },
    ),
    row(
        "0.7",
        "all six metadata functions are there",
        "table 48 bytes long",
        Driver,
        says(
            Rule::MetadataFunction,
            "global_variable_sections is NULL or past the table's size of 48",
        ),
        |p| {
            p.put(p.metadata(), &[48]);
        },
    ),
    row(
        "0.7",
        "an empty list is (NULL, 0)",
        "no initial values, but a pointer",
        Driver,
        says(
            Rule::ArrayPointer,
            "the table of initial values: the count is 0, the pointer not NULL",
        ),
        |p| {
            let list = table(p, "hash");
            give(p, INITIAL_VALUES, Some(list), 0);
        },
    ),
    row(
        "0.8",
        "code reads map_data with the stride of the stated version",
        "version 1.3.0 on code of 1.4.0",
        Run,
        says(Rule::HelperArgument, ""),
        |p| state_version(p, 1, 3),
    ),
    row(
        "0.9",
        "helper ids of a program are unique",
        "an id twice",
        Driver,
        says(Rule::DuplicateHelper, "program dispatch lists helper 1 twice"),
        |p| {
            p.put(p.helper(0, 1, 24), &[1]);
        },
    ),
    row(
        "0.9",
        "functions of other modules are sorted if a hash is given",
        "two of them exchanged after hashing",
        Functions,
        says(Rule::ProgramInfoHash, "the runtime computes"),
        |p| {
            state_hash_of_functions(p);
            let list = target(p, p.program(0, 144));
            let (first, third) = (
                p.bytes[list..list + 48].to_vec(),
                p.bytes[list + 96..list + 144].to_vec(),
            );
            p.put(list, &third).put(list + 96, &first);
        },
    ),
    // ---- §3
    row(
        "3",
        "get_metadata_table is exported by name",
        "exported by another name",
        Dll,
        says(Rule::MetadataExport, "it is not exported"),
        |p| {
            p.put(p.find(".rdata", b"get_metadata_table\0"), b"h");
        },
    ),
    row(
        "3",
        "get_metadata_table is exported by name",
        "no exports",
        Dll,
        says(Rule::MetadataExport, "it is not exported"),
        |p| {
            p.put(p.directory(DirectoryKind::Export), &[0; 8]);
        },
    ),
    row(
        "3",
        "get_metadata_table is a function",
        "exported in .rdata",
        Dll,
        says(Rule::MetadataExport, "which is not code"),
        |p| {
            let rva = p.section(".rdata").rva.0;
            p.put(export(p, 28), &rva.to_le_bytes());
        },
    ),
    row(
        "3",
        "the export table is well formed",
        "no names in it",
        Dll,
        says(Rule::MetadataExport, "it is not exported"),
        |p| {
            p.put(exports(p) + 24, &[0; 4]);
        },
    ),
    row(
        "3",
        "the export table is well formed",
        "more names than there are",
        Dll,
        says(Rule::ExportTable, ""),
        |p| {
            p.put(exports(p) + 24, &[0xFF; 4]);
        },
    ),
    row(
        "3",
        "DllMain returns 1",
        "returns 0",
        Dll,
        says(Rule::DllMain, "DllMain(DLL_PROCESS_ATTACH) returned 0x00000000"),
        entry_returns_zero,
    ),
    row(
        "3",
        "get_metadata_table returns the table",
        "returns NULL",
        Dll,
        says(Rule::MetadataTable, "no metadata table is offered"),
        |p| {
            let rva = export(p, 28);
            let stub = add_section(p, *b"stub\0\0\0\0", CODE, &return_zero(p));
            p.put(rva, &stub.to_le_bytes());
        },
    ),
    row(
        "3",
        "the subsystem is one of user mode",
        "NATIVE",
        Dll,
        says(Rule::Subsystem, "the subsystem is 1"),
        |p| {
            p.put(p.optional() + 68, &[1]);
        },
    ),
    // ---- §4.1
    row(
        "4.1",
        "a metadata table has programs",
        "programs NULL",
        Driver,
        says(Rule::MetadataTable, "programs is NULL"),
        |p| p.pointer_away(p.metadata() + PROGRAMS),
    ),
    row(
        "4.1",
        "a metadata table has maps",
        "maps NULL",
        Driver,
        says(Rule::MetadataTable, "maps is NULL"),
        |p| p.pointer_away(p.metadata() + MAPS),
    ),
    row(
        "4.1",
        "its size is at least 32",
        "size 31",
        Driver,
        says(Rule::MetadataTable, "its size is 31"),
        |p| {
            p.put(p.metadata(), &[31]);
        },
    ),
    row(
        "4.1",
        "version is called without a check",
        "version NULL",
        Driver,
        says(Rule::MetadataFunction, "version is NULL"),
        |p| p.pointer_away(p.metadata() + VERSION),
    ),
    row(
        "4.1",
        "map_initial_values is called without a check",
        "map_initial_values NULL",
        Driver,
        says(Rule::MetadataFunction, "map_initial_values is NULL"),
        |p| p.pointer_away(p.metadata() + INITIAL_VALUES),
    ),
    row(
        "4.1",
        "global_variable_sections is called without a check",
        "global_variable_sections NULL",
        Driver,
        says(Rule::MetadataFunction, "global_variable_sections is NULL"),
        |p| p.pointer_away(p.metadata() + GLOBAL_SECTIONS),
    ),
    row(
        "4.1",
        "metadata functions are code",
        "programs in .rdata",
        Driver,
        says(Rule::WildPointer, "the metadata function programs is section .rdata"),
        |p| {
            let data = table(p, ".rdata");
            redirect(p, p.metadata() + PROGRAMS, data);
        },
    ),
    row(
        "4.1",
        "the version is at least 0.21.0",
        "0.20.0",
        Driver,
        says(Rule::Version, "it states 0.20.0"),
        |p| state_version(p, 0, 20),
    ),
    row(
        "4.1",
        "programs: count > 0 exactly if the pointer is not NULL",
        "4 programs at NULL",
        Driver,
        says(
            Rule::ArrayPointer,
            "the program table: the count is 4, the pointer NULL",
        ),
        |p| give(p, PROGRAMS, None, 4),
    ),
    row(
        "4.1",
        "programs: count > 0 exactly if the pointer is not NULL",
        "no programs, but a pointer",
        Driver,
        says(Rule::ArrayPointer, "the program table: the count is 0"),
        |p| {
            let list = table(p, "programs");
            give(p, PROGRAMS, Some(list), 0);
        },
    ),
    row(
        "4.1",
        "maps: count > 0 exactly if the pointer is not NULL",
        "5 maps at NULL",
        Driver,
        says(Rule::ArrayPointer, "the map table: the count is 5, the pointer NULL"),
        |p| give(p, MAPS, None, 5),
    ),
    row(
        "4.1",
        "maps: count > 0 exactly if the pointer is not NULL",
        "no maps, but a pointer",
        Driver,
        says(Rule::ArrayPointer, "the map table: the count is 0"),
        |p| {
            let list = table(p, "maps");
            give(p, MAPS, Some(list), 0);
        },
    ),
    row(
        "4.1",
        "initial values: count > 0 exactly if the pointer is not NULL",
        "one list at NULL",
        Driver,
        says(
            Rule::ArrayPointer,
            "the table of initial values: the count is 1, the pointer NULL",
        ),
        |p| give(p, INITIAL_VALUES, None, 1),
    ),
    row(
        "4.1",
        "global sections: count > 0 exactly if the pointer is not NULL",
        "one section at NULL",
        Driver,
        says(
            Rule::ArrayPointer,
            "the table of global sections: the count is 1, the pointer NULL",
        ),
        |p| give(p, GLOBAL_SECTIONS, None, 1),
    ),
    row(
        "4.1",
        "global sections: count > 0 exactly if the pointer is not NULL",
        "no section, but a pointer",
        Driver,
        says(Rule::ArrayPointer, "the table of global sections: the count is 0"),
        |p| {
            let list = table(p, "hash");
            give(p, GLOBAL_SECTIONS, Some(list), 0);
        },
    ),
    row(
        "4.1",
        "helpers: count > 0 exactly if the pointer is not NULL",
        "no helpers, but a pointer",
        Driver,
        says(Rule::ArrayPointer, "the helpers of program 0: the count is 0"),
        |p| {
            p.put(p.program(0, 88), &[0]);
        },
    ),
    row(
        "4.1",
        "helpers: count > 0 exactly if the pointer is not NULL",
        "four helpers at NULL",
        Driver,
        says(
            Rule::ArrayPointer,
            "the helpers of program 0: the count is 4, the pointer NULL",
        ),
        |p| p.pointer_away(p.program(0, 80)),
    ),
    row(
        "4.1",
        "BTF functions: count > 0 exactly if the pointer is not NULL",
        "one function at NULL",
        Driver,
        says(Rule::ArrayPointer, "the BTF functions of program 0: the count is 1"),
        |p| {
            p.put(p.program(0, 152), &[1]);
        },
    ),
    row(
        "4.1",
        "BTF functions: count > 0 exactly if the pointer is not NULL",
        "no functions, but a pointer",
        Functions,
        says(Rule::ArrayPointer, "the BTF functions of program 0: the count is 0"),
        |p| {
            p.put(p.program(0, 152), &[0]);
        },
    ),
    row(
        "4.1",
        "each program has a header that is accepted",
        "version 2 of the second",
        Driver,
        says(Rule::ElementHeader, "program 1 has version 2 and size 154"),
        |p| {
            p.put(p.program(1, 8), &[2]);
        },
    ),
    row(
        "4.1",
        "each program has a header that is accepted",
        "size 160 of the second",
        Driver,
        says(Rule::ElementHeader, "program 1 has version 1 and size 160"),
        |p| {
            p.put(p.program(1, 16), &[160]);
        },
    ),
    row(
        "4.1",
        "each map has a header that is accepted",
        "version 0",
        Driver,
        says(Rule::ElementHeader, "map 2 has version 0"),
        |p| {
            p.put(p.map(2, 16), &[0]);
        },
    ),
    row(
        "4.1",
        "each map has a header that is accepted",
        "size 72",
        Driver,
        says(Rule::ElementHeader, "map 2 has version 1 and size 72"),
        |p| {
            p.put(p.map(2, 24), &[72]);
        },
    ),
    row(
        "4.1",
        "each helper has a header that is accepted",
        "version 2",
        Driver,
        says(Rule::ElementHeader, "helper 1 of program 0 has version 2"),
        |p| {
            p.put(p.helper(0, 1, 0), &[2]);
        },
    ),
    row(
        "4.1",
        "each helper has a header that is accepted",
        "size 32",
        Driver,
        says(Rule::ElementHeader, "helper 1 of program 0 has version 1 and size 32"),
        |p| {
            p.put(p.helper(0, 1, 8), &[32]);
        },
    ),
    row(
        "4.1",
        "each list of initial values has a header that is accepted",
        "size 40",
        Driver,
        says(Rule::ElementHeader, "initial values 0 has version 1 and size 40"),
        |p| {
            p.put(initial(p, 8), &[40]);
        },
    ),
    row(
        "4.1",
        "each global section has a header that is accepted",
        "version 0",
        Driver,
        says(Rule::ElementHeader, "global section 0 has version 0"),
        |p| {
            p.put(global(p, 0), &[0]);
        },
    ),
    row(
        "4.1",
        "each BTF function has a header that is accepted",
        "size 40",
        Functions,
        says(
            Rule::ElementHeader,
            "BTF function 1 of program 0 has version 1 and size 40",
        ),
        |p| {
            p.put(target(p, p.program(0, 144)) + 48 + 8, &[40]);
        },
    ),
    row(
        "4.1",
        "the total size of a BTF function is 48",
        "total size 56",
        Functions,
        says(Rule::ElementHeader, "has total size 56"),
        |p| {
            p.put(target(p, p.program(0, 144)) + 16, &[56]);
        },
    ),
    row(
        "4.1",
        "the stride is the first element's total size",
        "total size of the first map 88",
        Driver,
        says(Rule::ElementHeader, "map 1 has version"),
        |p| {
            p.put(p.map(0, 32), &[88]);
        },
    ),
    row(
        "4.1",
        "the stride is the first element's total size",
        "total size of the first helper 48",
        Driver,
        says(Rule::ElementHeader, "helper 1 of program 0 has version"),
        |p| {
            p.put(p.helper(0, 0, 16), &[48]);
        },
    ),
    row(
        "4.1",
        "helpers have names",
        "name NULL",
        Driver,
        says(Rule::ElementPointer, "the name of helper 1 of program 0 is NULL"),
        |p| p.pointer_away(p.helper(0, 1, 32)),
    ),
    row(
        "4.1",
        "initial values have a list",
        "list NULL",
        Driver,
        says(Rule::ElementPointer, "the list of initial values 0 is NULL"),
        |p| p.pointer_away(initial(p, 40)),
    ),
    row(
        "4.1",
        "global sections have data",
        "data NULL",
        Driver,
        says(Rule::ElementPointer, "the data of global section 0 is NULL"),
        |p| p.pointer_away(global(p, 40)),
    ),
    row(
        "4.1",
        "BTF functions have both name and module, or neither",
        "module of one zero",
        Functions,
        says(Rule::ElementPointer, "needs both a name and a module, or neither"),
        |p| {
            p.put(target(p, p.program(0, 144)) + 32, &[0; 16]);
        },
    ),
    // ---- §4.3
    row(
        "4.3",
        "pinning is 0 or 1",
        "pinning 2",
        Driver,
        says(Rule::MapPinning, "pinning is 2"),
        |p| {
            p.put(p.map(1, 60), &[2]);
        },
    ),
    row(
        "4.3",
        "the name of a pinned map makes a path",
        "a colon in it",
        EveryMap,
        says(Rule::MapPinning, "the name does not make a pin path"),
        |p| {
            p.put(target(p, p.map(17, 72)), b":");
        },
    ),
    row(
        "4.3",
        "a map of maps has a template",
        "inner id that no map has",
        EveryMap,
        says(Rule::InnerTemplate, "map outer has no inner template"),
        |p| {
            p.put(p.map(14, 68), &[99]);
        },
    ),
    row(
        "4.3",
        "a map of maps has a template",
        "index of the inner map past the maps",
        EveryMap,
        says(Rule::InnerTemplate, "has no inner template"),
        |p| {
            p.put(p.map(15, 56), &[18]);
        },
    ),
    row(
        "4.3",
        "a map of maps has a template",
        "itself named as template",
        EveryMap,
        says(Rule::InnerTemplate, "map outer_hash has no inner template"),
        |p| {
            p.put(p.map(15, 56), &[15]);
        },
    ),
    row(
        "4.3",
        "map types are below 17",
        "type 17",
        Driver,
        says(Rule::MapDefinition, "17"),
        |p| {
            p.put(p.map(1, 40), &[17]);
        },
    ),
    row(
        "4.3",
        "custom map types need a provider",
        "type 16 without one",
        Driver,
        says(Rule::MapProvider, "no provider of map type 16 is attached"),
        |p| {
            p.put(p.map(1, 40), &[16]);
        },
    ),
    row(
        "4.3",
        "max_entries is not 0",
        "0",
        Driver,
        says(Rule::MapDefinition, "max_entries is 0"),
        |p| {
            p.put(p.map(1, 52), &[0; 4]);
        },
    ),
    row(
        "4.3",
        "key_size is not 0",
        "0",
        Driver,
        says(Rule::MapDefinition, "key size is 0"),
        |p| {
            p.put(p.map(2, 44), &[0; 4]);
        },
    ),
    row(
        "4.3",
        "value_size is not 0",
        "0",
        Driver,
        says(Rule::MapDefinition, "value size is 0"),
        |p| {
            p.put(p.map(2, 48), &[0; 4]);
        },
    ),
    row(
        "4.3",
        "program arrays have value_size 4",
        "8",
        Driver,
        says(Rule::MapDefinition, "value size is 8, objects need 4"),
        |p| {
            p.put(p.map(0, 48), &[8]);
        },
    ),
    row(
        "4.3",
        "names of maps have less than 64 bytes",
        "64",
        Driver,
        says(Rule::NameLength, "the name of map 2 has more than 63 bytes"),
        |p| {
            let name = string(p, &long_name(64));
            redirect(p, p.map(2, 72), name);
        },
    ),
    // ---- §4.4
    row(
        "4.4",
        "names of programs have 1 to 63 bytes",
        "an empty one",
        Driver,
        says(Rule::NameLength, "the name of program 0 has 0 bytes"),
        |p| {
            let name = string(p, &[0]);
            redirect(p, p.program(0, 56), name);
        },
    ),
    row(
        "4.4",
        "names of programs have 1 to 63 bytes",
        "64",
        Driver,
        says(Rule::NameLength, "the name of program 3 has more than 63 bytes"),
        |p| {
            let name = string(p, &long_name(64));
            redirect(p, p.program(3, 56), name);
        },
    ),
    row(
        "4.4",
        "names of sections have 1 to 63 bytes",
        "an empty one",
        Driver,
        says(Rule::NameLength, "the section name of program dispatch has 0 bytes"),
        |p| {
            let name = string(p, &[0]);
            redirect(p, p.program(0, 48), name);
        },
    ),
    row(
        "4.4",
        "names of sections have 1 to 63 bytes",
        "64",
        Driver,
        says(
            Rule::NameLength,
            "the section name of program dispatch has more than 63 bytes",
        ),
        |p| {
            let name = string(p, &long_name(64));
            redirect(p, p.program(0, 48), name);
        },
    ),
    row(
        "4.4",
        "the name of the hash algorithm has less than 64 bytes",
        "64",
        Driver,
        says(
            Rule::NameLength,
            "the hash type of program dispatch has more than 63 bytes",
        ),
        |p| {
            let name = string(p, &long_name(64));
            redirect(p, p.program(0, 136), name);
        },
    ),
    row(
        "4.4",
        "the program type is not the zero GUID",
        "zeros",
        Driver,
        says(Rule::ProgramType, "is the zero GUID"),
        |p| {
            p.put(target(p, p.program(0, 104)), &[0; 16]);
        },
    ),
    row(
        "4.4",
        "an extension of the program type is attached",
        "a type that nobody has",
        Driver,
        says(Rule::ProgramType, "no extension offers"),
        |p| {
            p.put(target(p, p.program(0, 104)), &[0x5A; 16]);
        },
    ),
    row(
        "4.4",
        "map indices are below the number of maps",
        "index 5 of 5",
        Driver,
        says(Rule::MapIndex, "program dispatch refers to map 5 of 5"),
        |p| {
            p.put(target(p, p.program(0, 64)), &[5]);
        },
    ),
    row(
        "4.4",
        "map indices are a list of as many numbers",
        "list NULL",
        Driver,
        says(Rule::WildPointer, "the map indices of program dispatch"),
        |p| p.pointer_away(p.program(0, 64)),
    ),
    row(
        "4.4",
        "every map that is used is referred to",
        "the program array left out",
        Run,
        says(Rule::HelperArgument, "NULL"),
        |p| {
            p.put(target(p, p.program(0, 64)), &[3]);
            p.put(p.program(0, 72), &[1]);
        },
    ),
    row(
        "4.4",
        "the function is code",
        "function in .rdata",
        Driver,
        says(
            Rule::ProgramFunction,
            "the function of program dispatch is section .rdata",
        ),
        |p| {
            let data = table(p, ".rdata");
            redirect(p, p.program(0, 32), data);
        },
    ),
    // ---- §4.5
    row(
        "4.5",
        "a global section has the name of a map",
        "that of a program",
        Driver,
        says(
            Rule::GlobalSection,
            "global section dispatch: there is no map of that name",
        ),
        |p| {
            let name = p.u64(p.program(0, 56));
            redirect(p, global(p, 24), name);
        },
    ),
    row(
        "4.5",
        "that map is an ARRAY",
        "a hash",
        Driver,
        says(Rule::GlobalSection, "its map has type 1, not ARRAY"),
        |p| {
            p.put(p.map(4, 40), &[1]);
        },
    ),
    row(
        "4.5",
        "its data fits the map: the runtime does not look",
        "9 bytes into 8",
        Driver,
        says(Rule::GlobalSectionSize, "9 bytes of global section"),
        |p| {
            p.put(global(p, 32), &[9]);
        },
    ),
    row(
        "4.5",
        "its data is there",
        "outside the image",
        Driver,
        says(Rule::WildPointer, "8 bytes of global section"),
        |p| {
            redirect(p, global(p, 40), 0x1_5000_0000);
        },
    ),
    // ---- §4.6
    row(
        "4.6",
        "helper ids are known",
        "id 99",
        Driver,
        says(Rule::HelperId, "program dispatch uses helper 99"),
        |p| {
            p.put(p.helper(0, 1, 24), &[99]);
        },
    ),
    row(
        "4.6",
        "helpers above 65535 are those of the program type",
        "one that the type lacks",
        Driver,
        says(
            Rule::HelperId,
            "uses helper 65999, which program type xdp does not have",
        ),
        |p| {
            p.put(p.helper(0, 1, 24), &65999u32.to_le_bytes());
        },
    ),
    row(
        "4.6",
        "a duplicate id fails even without a hash",
        "an id twice, no hash",
        Driver,
        says(Rule::DuplicateHelper, "lists helper 1 twice"),
        |p| {
            p.put(p.program(1, 128), &[0]);
            p.put(p.helper(1, 1, 24), &[1]);
        },
    ),
    // ---- §4.7
    row(
        "4.7",
        "a function is found in its provider by exact name",
        "first letter changed",
        Functions,
        says(Rule::BtfFunction, "has no function Other_function"),
        |p| {
            p.put(p.find(".rdata", b"other_function\0"), b"O");
        },
    ),
    row(
        "4.7",
        "every module that is named has a provider",
        "a module that nobody has",
        Functions,
        says(Rule::BtfFunction, "5a5a5a5a"),
        |p| {
            p.put(target(p, p.program(0, 144)) + 32, &[0x5A; 16]);
        },
    ),
    // ---- §4.8
    row(
        "4.8",
        "the hash is the one that the runtime computes",
        "a bit of it changed",
        Driver,
        says(Rule::ProgramInfoHash, "the runtime computes"),
        |p| {
            let at = target(p, p.program(0, 120));
            p.bytes[at] ^= 1;
        },
    ),
    row(
        "4.8",
        "the hash is over the ids of the table",
        "another id, its hash kept",
        Driver,
        says(Rule::ProgramInfoHash, "the runtime computes"),
        |p| {
            p.put(p.helper(0, 1, 24), &[6]);
        },
    ),
    row(
        "4.8",
        "its length is that of the algorithm",
        "31 bytes",
        Driver,
        says(Rule::ProgramInfoHash, "it has 31 bytes"),
        |p| {
            p.put(p.program(0, 128), &[31]);
        },
    ),
    row(
        "4.8",
        "the algorithm is the stated one, by its CNG name",
        "SHA512 of a SHA256",
        Driver,
        says(Rule::ProgramInfoHash, "it has 32 bytes, SHA-512 has 64"),
        |p| {
            let name = string(p, b"SHA512\0");
            let at = p.program(0, 136);
            if p.u64(at) == 0 {
                p.pointer(at, name);
            } else {
                redirect(p, at, name);
            }
        },
    ),
    row(
        "4.8",
        "the hash is there",
        "NULL with 32 bytes",
        Driver,
        says(Rule::WildPointer, "the hash of program dispatch is NULL"),
        |p| p.pointer_away(p.program(0, 120)),
    ),
    // ---- §4.9
    row(
        "4.9",
        "initial values are of a map of the module",
        "of no map",
        Driver,
        says(Rule::InitialValue, "there is no map dispatch"),
        |p| {
            let name = p.u64(p.program(0, 56));
            redirect(p, initial(p, 24), name);
        },
    ),
    row(
        "4.9",
        "initial values of a program array are names of programs",
        "the name of a section",
        Driver,
        says(Rule::InitialValue, "map stages: there is no program xdp/stage"),
        |p| {
            let name = p.u64(p.program(1, 48));
            redirect(p, target(p, initial(p, 40)), name);
        },
    ),
    row(
        "4.9",
        "initial values of a map of maps are names of maps: the runtime does not look",
        "the name of a section",
        EveryMap,
        says(Rule::InitialMap, "map outer: there is no map"),
        |p| {
            let name = p.u64(p.program(0, 48));
            redirect(p, target(p, p.list(2) + 40) + 8, name);
        },
    ),
    row(
        "4.9",
        "other maps have no initial values",
        "values of an array",
        Driver,
        says(Rule::InitialValue, "which has no initial values"),
        |p| {
            let name = p.u64(p.map(3, 72));
            redirect(p, initial(p, 24), name);
        },
    ),
    row(
        "4.9",
        "keys have 4 bytes",
        "8",
        Driver,
        says(Rule::InitialValue, "keys of map stages have 8 bytes, not 4"),
        |p| {
            p.put(p.map(0, 44), &[8]);
        },
    ),
    row(
        "4.9",
        "values fit the map",
        "three values for one entry",
        Driver,
        says(Rule::InitialValue, "the runtime answers"),
        |p| {
            p.put(p.map(0, 52), &[1]);
        },
    ),
    row(
        "4.9",
        "lists of initial values are 48 bytes apart whatever their headers say",
        "total size 56",
        EveryMap,
        says(Rule::ElementHeader, ""),
        |p| {
            p.put(p.list(3) + 16, &[56]);
        },
    ),
    row(
        "4.9",
        "programs in a program array have one type",
        "one of another type that refers to it",
        EveryMap,
        says(Rule::ProgramArrayType, "belongs to another type"),
        |p| {
            p.put(p.program(1, 72), &[18]);
        },
    ),
    // ---- §5.1
    row(
        "5.1",
        "the optional header has 0xF0 bytes",
        "0xE0",
        Driver,
        says(Rule::UserModeFile, "the optional header has 0xe0 bytes"),
        |p| {
            p.put(p.optional() - 4, &[0xE0]);
        },
    ),
    row(
        "5.1",
        "raw data is in the file",
        "raw data of .reloc past the end",
        Driver,
        says(Rule::UserModeFile, "raw data of .reloc passes the end of the file"),
        |p| {
            p.put(p.header(".reloc") + 16, &0x10_0000u32.to_le_bytes());
        },
    ),
    row(
        "5.1",
        "relocation blocks have at least 8 bytes",
        "a size of 4",
        Driver,
        says(Rule::UserModeFile, "states a size of 4 bytes"),
        |p| {
            p.put(p.raw(".reloc") + 4, &4u32.to_le_bytes());
        },
    ),
    row(
        "5.1",
        "no empty block ends the relocations",
        "eight zero bytes in the directory",
        Driver,
        says(Rule::UserModeFile, "states a size of 0 bytes"),
        |p| {
            let size = p.directory(DirectoryKind::BaseRelocation) + 4;
            let bytes = p.section(".reloc").virtual_size;
            p.put(size, &(bytes + 8).to_le_bytes());
            p.put(p.header(".reloc") + 8, &(bytes + 8).to_le_bytes());
        },
    ),
    row(
        "5.1",
        "the import descriptors end with an empty one",
        "none up to the end of the section",
        Driver,
        says(Rule::UserModeFile, ""),
        |p| {
            let (at, end) = (imports(p) + 40, p.raw(".rdata") + p.section(".rdata").raw_size as usize);
            p.put(at, &vec![0xFF; end - at]);
        },
    ),
    row(
        "5.1",
        "names of imports end in their section",
        "a name up to the end of the section",
        Driver,
        says(Rule::UserModeFile, ""),
        |p| {
            let (at, end) = (
                p.find(".rdata", b"RtlQueryRegistryValues\0"),
                p.raw(".rdata") + p.section(".rdata").raw_size as usize,
            );
            p.put(at, &vec![b'A'; end - at]);
        },
    ),
    row(
        "5.1",
        "the export directory is in raw data",
        "past the image",
        Dll,
        says(Rule::UserModeFile, "the export directory at"),
        |p| {
            p.put(p.directory(DirectoryKind::Export), &[0, 0, 0, 0x70]);
        },
    ),
    row(
        "5.1",
        "there is no COFF symbol table",
        "a pointer to one",
        Driver,
        says(Rule::UserModeFile, "it has a COFF symbol table at 0x1"),
        |p| {
            p.put(p.optional() - 12, &[1]);
        },
    ),
    row(
        "5.1",
        "section names are the 8 bytes of the header",
        "a long name, /4, for .rdata",
        Driver,
        says(Rule::UserModeString, "is in /4"),
        |p| {
            p.put(p.header(".rdata"), b"/4\0\0\0\0\0\0");
        },
    ),
    row(
        "5.1",
        "section names are the 8 bytes of the header",
        "a code section's name longer than 8 bytes in the table",
        Driver,
        says(Rule::UserModeCodeSection, "has no code section called xdp/stage_arp"),
        |p| {
            let name = string(p, b"xdp/stage_arp\0");
            redirect(p, p.program(1, 40), name);
        },
    ),
    row(
        "5.1",
        "pointers are compared as addresses from the preferred base",
        "name of a map as RVA",
        Driver,
        says(Rule::UserModeString, "the name of map 0 is in outside every section"),
        |p| as_rva(p, p.map(0, 72)),
    ),
    row(
        "5.1",
        "pointers are compared as addresses from the preferred base",
        "program type as RVA",
        Driver,
        says(Rule::UserModeGuid, "the program type of program 0 is not in .data"),
        |p| as_rva(p, p.program(0, 104)),
    ),
    row(
        "5.1",
        "pointers are compared as addresses from the preferred base",
        "name of a map zero",
        Driver,
        says(Rule::UserModeString, "the name of map 0 is NULL"),
        |p| p.pointer_away(p.map(0, 72)),
    ),
    // ---- §5.2
    row(
        "5.2",
        "the map table is found in steps of 8",
        "4 bytes before it",
        Driver,
        says(Rule::UserModeMapTable, "no map entry is found"),
        |p| shift_table(p, *b"maps\0\0\0\0", &[1; 4]),
    ),
    row(
        "5.2",
        "the byte before the map table is zero",
        "8 bytes before it that do not end in zero",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees maps"),
        |p| shift_table(p, *b"maps\0\0\0\0", &[1; 8]),
    ),
    row(
        "5.2",
        "the version follows 16 zero bytes",
        "marker of the first map not zero",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees maps"),
        |p| {
            p.put(p.map(0, 0), &[1]);
        },
    ),
    row(
        "5.2",
        "user mode stops at a marker that is not zero",
        "marker of the third map not zero",
        Driver,
        says(Rule::UserModeMapTable, "user mode stops at map 2"),
        |p| {
            p.put(p.map(2, 8), &[1]);
        },
    ),
    row(
        "5.2",
        "zero padding in VirtualSize is taken for maps",
        "80 zero bytes more",
        Driver,
        says(Rule::UserModeString, "the name of map 5 is NULL"),
        |p| {
            p.put(p.header("maps") + 8, &480u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "entries of maps have 80 bytes up to VirtualSize",
        "8 bytes less",
        Driver,
        says(Rule::UserModeMapTable, "no multiple of 80"),
        |p| {
            p.put(p.header("maps") + 8, &392u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "the search for maps ends 24 bytes before VirtualSize",
        "24 bytes in all",
        Driver,
        says(Rule::UserModeMapTable, "no map entry is found"),
        |p| {
            p.put(p.header("maps") + 8, &24u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "the program table is found in steps of 16",
        "8 bytes before it",
        Driver,
        says(Rule::UserModeProgramTable, ""),
        |p| shift_table(p, *b"programs", &[1; 8]),
    ),
    row(
        "5.2",
        "the byte before the program table is zero",
        "16 bytes before it that do not end in zero",
        Driver,
        says(Rule::UserModeProgramTable, ""),
        |p| shift_table(p, *b"programs", &[1; 16]),
    ),
    row(
        "5.2",
        "the first program starts with 8 zero bytes",
        "marker of the first program not zero",
        Driver,
        says(Rule::UserModeProgramTable, ""),
        |p| {
            p.put(p.program(0, 0), &[1]);
        },
    ),
    row(
        "5.2",
        "the first program has a header that is accepted",
        "version 2",
        Driver,
        says(Rule::UserModeProgramTable, "the first entry has version 2"),
        |p| {
            p.put(p.program(0, 8), &[2]);
        },
    ),
    row(
        "5.2",
        "the first program has a header that is accepted",
        "size 152",
        Driver,
        says(Rule::UserModeProgramTable, "size 152"),
        |p| {
            p.put(p.program(0, 16), &[152]);
        },
    ),
    row(
        "5.2",
        "total_size is at least 144",
        "143",
        Driver,
        says(Rule::UserModeProgramTable, "total size 143"),
        |p| {
            p.put(p.program(0, 16), &[144]);
            p.put(p.program(0, 24), &[143]);
        },
    ),
    row(
        "5.2",
        "the number of programs is VirtualSize by total_size",
        "total_size 144 of entries of 160",
        Driver,
        says(Rule::UserModeProgramTable, "no multiple of 144"),
        |p| {
            p.put(p.program(0, 16), &[144]);
            p.put(p.program(0, 24), &[144]);
        },
    ),
    row(
        "5.2",
        "a section programs without programs is an error",
        "8 bytes",
        Driver,
        says(Rule::UserModeProgramTable, "only 8 bytes follow its start"),
        |p| {
            p.put(p.header("programs") + 8, &8u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "a section programs without programs is an error",
        "7 bytes",
        Driver,
        says(Rule::UserModeProgramTable, "no program entry is found"),
        |p| {
            p.put(p.header("programs") + 8, &7u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "fewer than 32 bytes of the first program are an error",
        "24",
        Driver,
        says(Rule::UserModeProgramTable, "only 24 bytes follow its start"),
        |p| {
            p.put(p.header("programs") + 8, &24u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "raw data of maps reaches VirtualSize",
        "no raw data",
        Driver,
        says(Rule::UserModeMapTable, "maps has 0x0 raw bytes"),
        |p| {
            p.put(p.header("maps") + 16, &[0; 4]);
        },
    ),
    row(
        "5.2",
        "raw data of programs reaches VirtualSize",
        "one page less",
        Driver,
        says(Rule::UserModeProgramTable, "programs has 0x200 raw bytes"),
        |p| {
            p.put(p.header("programs") + 16, &0x200u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "a module without maps has no section maps",
        "the section, and no maps",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees maps"),
        |p| {
            // Nothing uses the maps that are not shown any more.
            for program in 0..4 {
                p.pointer_away(p.program(program, 64));
                p.put(p.program(program, 72), &[0]);
            }
            give_all(
                p,
                &[(MAPS, None, 0), (INITIAL_VALUES, None, 0), (GLOBAL_SECTIONS, None, 0)],
            );
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "name of a map in .data",
        Driver,
        says(Rule::UserModeString, "the name of map 1 is in .data"),
        |p| {
            let data = table(p, ".data");
            redirect(p, p.map(1, 72), data);
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "name of a map in another section of constants",
        Driver,
        says(Rule::UserModeString, "the name of map 1 is in hash"),
        |p| {
            let other = table(p, "hash");
            redirect(p, p.map(1, 72), other);
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "name of a map in programs",
        Driver,
        says(Rule::UserModeString, "the name of map 1 is in programs"),
        |p| {
            let other = table(p, "programs");
            redirect(p, p.map(1, 72), other);
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "name of a program in .data",
        Driver,
        says(Rule::UserModeString, "the name of program 1 is in .data"),
        |p| {
            let data = table(p, ".data");
            redirect(p, p.program(1, 56), data);
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "section name of a program in maps",
        Driver,
        says(Rule::UserModeString, "the section name of program 1 is in maps"),
        |p| {
            let other = table(p, "maps");
            redirect(p, p.program(1, 48), other);
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "code section name of a program in code",
        Driver,
        says(Rule::UserModeString, "the code section name of program 1 is in .text"),
        |p| {
            let other = table(p, ".text");
            redirect(p, p.program(1, 40), other);
        },
    ),
    row(
        "5.2",
        "strings end inside raw data",
        "name of a map up to the end of .rdata",
        Driver,
        says(Rule::UserModeString, "the name of map 1 does not end in raw data"),
        |p| {
            let name = string(p, b"endless");
            redirect(p, p.map(1, 72), name);
        },
    ),
    row(
        "5.2",
        "strings end inside raw data",
        "name of a program up to the end of .rdata",
        Driver,
        says(Rule::UserModeString, "the name of program 1 does not end in raw data"),
        |p| {
            let name = string(p, b"endless");
            redirect(p, p.program(1, 56), name);
        },
    ),
    row(
        "5.2",
        "without .rdata, strings are in the tables' sections",
        ".rdata called .rodata",
        Driver,
        says(Rule::UserModeString, "is in .rodata"),
        |p| {
            p.put(p.header(".rdata"), b".rodata\0");
        },
    ),
    // ---- §5.3
    row(
        "5.3",
        "GUIDs are in .data",
        "program type in .rdata",
        Driver,
        says(Rule::UserModeGuid, "the program type of program 1 is not in .data"),
        |p| {
            let other = table(p, ".rdata");
            redirect(p, p.program(1, 104), other);
        },
    ),
    row(
        "5.3",
        "GUIDs are in .data",
        "attach type in hash",
        Driver,
        says(Rule::UserModeGuid, "the attach type of program 1 is not in .data"),
        |p| {
            let other = table(p, "hash");
            redirect(p, p.program(1, 112), other);
        },
    ),
    row(
        "5.3",
        "GUIDs are inside the raw data of .data",
        "program type at its end",
        Driver,
        says(Rule::UserModeGuid, "the program type of program 1 is not in .data"),
        |p| {
            let end = p.section(".data").raw_size - 8;
            let place = p.address(".data", end.into());
            redirect(p, p.program(1, 104), place);
        },
    ),
    row(
        "5.3",
        "a code section is marked as code",
        "IMAGE_SCN_CNT_CODE cleared",
        Driver,
        says(Rule::UserModeCodeSection, "has no code section called xdp"),
        |p| {
            p.put(p.header("xdp") + 36, &0x6000_0000u32.to_le_bytes());
        },
    ),
    row(
        "5.3",
        "a code section's name is that of the table",
        "case changed",
        Driver,
        says(Rule::UserModeCodeSection, "has no code section called xdp"),
        |p| {
            p.put(p.header("xdp"), b"XDP");
        },
    ),
    row(
        "5.3",
        "two code sections of one name duplicate programs",
        ".text called as another",
        Driver,
        says(Rule::UserModeCodeSection, "two code sections are called xdp"),
        |p| {
            p.put(p.header(".text"), b"xdp\0\0");
        },
    ),
    row(
        "5.3",
        "raw data of a code section reaches VirtualSize",
        "VirtualSize past it",
        Driver,
        says(Rule::UserModeCodeSection, "xdp has 0x200 raw bytes of 0x201"),
        |p| {
            p.put(p.header("xdp") + 8, &0x201u32.to_le_bytes());
        },
    ),
    // ---- §5.4
    row(
        "5.4",
        "both sides have the same programs",
        "one less in the kernel",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees programs"),
        |p| {
            let list = table(p, "programs");
            // The program that is missing is not a value of the program array any more.
            let stage = p.u64(p.program(1, 56));
            let values = target(p, initial(p, 40));
            for slot in 0..3 {
                redirect(p, values + 8 * slot, stage);
            }
            give(p, PROGRAMS, Some(list), 3);
        },
    ),
    row(
        "5.4",
        "both sides have the same maps",
        "one less in the kernel",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees maps"),
        |p| {
            let list = table(p, "maps");
            // The last map is that of the global data.
            for program in [1, 2] {
                let count = p.bytes[p.program(program, 72)];
                p.put(p.program(program, 72), &[count - 1]);
            }
            give_all(p, &[(MAPS, Some(list), 4), (GLOBAL_SECTIONS, None, 0)]);
        },
    ),
    row(
        "5.4",
        "names of programs are distinct",
        "one name twice",
        Driver,
        says(Rule::ViewsDiffer, "two programs have the same name"),
        |p| {
            let name = p.u64(p.program(2, 56));
            redirect(p, p.program(3, 56), name);
            let values = target(p, initial(p, 40));
            for slot in 0..3 {
                redirect(p, values + 8 * slot, name);
            }
        },
    ),
    // ---- DLLs, where their reader differs
    row(
        "5.2",
        "DLL: the map table is found behind strings",
        "strings that do not end in zero",
        Dll,
        says(Rule::ViewsDiffer, "user mode sees maps"),
        |p| shift_table(p, *b"maps\0\0\0\0", b"abcdefgh"),
    ),
    row(
        "5.2",
        "DLL: VirtualSize of maps is the table's size",
        "8 bytes more",
        Dll,
        says(Rule::UserModeMapTable, "no multiple of 80"),
        |p| {
            p.put(p.header("maps") + 8, &408u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "DLL: strings are in .rdata or in the table's section",
        "name of a map in .data",
        Dll,
        says(Rule::UserModeString, "the name of map 1 is in .data"),
        |p| {
            let data = table(p, ".data");
            redirect(p, p.map(1, 72), data);
        },
    ),
    row(
        "5.3",
        "DLL: GUIDs are in .data",
        "attach type NULL",
        Dll,
        says(Rule::UserModeGuid, "the attach type of program 1"),
        |p| p.pointer_away(p.program(1, 112)),
    ),
    row(
        "5.4",
        "DLL: programs are sorted by name",
        "names of two programs exchanged",
        Dll,
        says(Rule::ViewsDiffer, "user mode sees programs"),
        |p| {
            let (a, b) = (p.program(0, 56), p.program(1, 56));
            let (first, second) = (p.u64(a), p.u64(b));
            redirect(p, a, second);
            redirect(p, b, first);
        },
    ),
];
