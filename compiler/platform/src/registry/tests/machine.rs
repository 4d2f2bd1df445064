//! The registry of a machine that has given providers, as an export.

use std::fmt::Write;

use crate::model::{Helper, ProgramType};
use crate::{Guid, Platform};

pub const ROOT: &str = r"HKEY_CURRENT_USER\Software\eBPF\Providers";

/// Everything that the store has of a platform, in version 5.00 of the format, with LF.
pub fn export(platform: &Platform) -> String {
    let mut text = String::from("Windows Registry Editor Version 5.00\n\n");
    for program_type in &platform.program_types {
        text += &of_type(program_type);
    }
    for helper in &platform.helpers {
        let _ = write!(text, "[{ROOT}\\GlobalHelpers\\{}]\n{}", helper.name, prototype(helper));
    }
    for function in &platform.btf_functions {
        let module = format!("{ROOT}\\BtfResolvedFunctions\\{{{}}}", function.module);
        let mut arguments = Vec::new();
        arguments.extend(function.arguments.iter().flat_map(|a| a.to_le_bytes()));
        let _ = write!(
            text,
            "[{module}]\n\"Version\"=dword:1\n\"Size\"=dword:3c\n[{module}\\Functions\\{}]\n\"ReturnType\"=dword:{:x}\n\
             \"Arguments\"={}\n\"Flags\"=dword:{:x}\n",
            function.name,
            function.return_type,
            hex(&arguments),
            function.flags
        );
    }
    text
}

fn of_type(program_type: &ProgramType) -> String {
    let key = format!("{ROOT}\\ProgramData\\{{{}}}", program_type.guid);
    let context = &program_type.context;
    let context = [context.size, context.data, context.data_end, context.data_meta];
    let context: Vec<u8> = context.iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut text = format!(
        "[{key}]\n\"Version\"=dword:1\n\"Size\"=dword:40\n\"HelperCount\"=dword:{:x}\n\
         [{key}\\TypeDescriptor]\n\"Version\"=dword:1\n\"Size\"=dword:3d\n\"Name\"=\"{}\"\n\"ContextDescriptor\"={}\n\
         \"BpfProgType\"=dword:{:x}\n\"IsPrivileged\"=dword:{:x}\n",
        program_type.helpers.len(),
        program_type.name,
        hex(&context),
        program_type.bpf_prog_type,
        u8::from(program_type.is_privileged)
    );
    for helper in &program_type.helpers {
        let _ = write!(text, "[{key}\\Helpers\\{}]\n{}", helper.name, prototype(helper));
    }
    for section in &program_type.sections {
        let _ = write!(
            text,
            "[{ROOT}\\SectionData\\{}]\n\"Version\"=dword:1\n\"Size\"=dword:38\n\"ProgramType\"={}\n\"AttachType\"={}\n\
             \"BpfProgType\"=dword:{:x}\n\"BpfAttachType\"=dword:{:x}\n",
            section.prefix,
            guid(program_type.guid),
            guid(section.attach_type),
            program_type.bpf_prog_type,
            section.bpf_attach_type
        );
    }
    text
}

fn prototype(helper: &Helper) -> String {
    let numbers = [helper.id, helper.return_type].into_iter().chain(helper.arguments);
    let bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
    format!(
        "\"Version\"=dword:1\n\"Size\"=dword:42\n\"Prototype\"={}\n\"ReallocatePacket\"=dword:{:x}\n",
        hex(&bytes),
        u8::from(helper.reallocate_packet)
    )
}

fn guid(guid: Guid) -> String {
    hex(&guid.0)
}

/// `hex:` with a line for each eight bytes.
fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(8).map(|line| {
        let bytes = line.iter().map(|b| format!("{b:02x}"));
        bytes.collect::<Vec<_>>().join(",")
    });
    format!("hex:{}", lines.collect::<Vec<_>>().join(",\\\n  "))
}

/// As `reg export` writes it.
pub fn utf16(text: &str) -> Vec<u8> {
    let text = text.replace('\n', "\r\n");
    let units = text.encode_utf16().flat_map(u16::to_le_bytes);
    [0xFF, 0xFE].into_iter().chain(units).collect()
}
