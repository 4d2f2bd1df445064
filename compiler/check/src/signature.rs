//! The embedded signature: the certificate table, which is read here, and what a reader of signatures says of it (native
//! module contract §9).

use bpf2sys_simulator::image::{Directory, DirectoryKind};

use crate::options::{Finding, Policy, SignatureFacts};
use crate::rule::{Group, Rule, Scope, Verdict, Weight};
use crate::subject::Subject;

/// Bytes of a `WIN_CERTIFICATE` before its content.
const HEADER: u64 = 8;
/// `WIN_CERT_REVISION_2_0` and `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const SIGNED_DATA: [u16; 2] = [0x200, 2];

const TABLE: &str = "PE format, \"The Attribute Certificate Table (Image Only)\"";
const SERVICE: &str = "native module contract §9";
const MICROSOFT_ONLY: &str = "the eBPF service refuses the module on production systems; only Microsoft can sign it so";

const fn rule(scope: Scope, id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::Signature, scope, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        Scope::Image,
        "sign.present",
        [
            "there is an embedded signature",
            "no driver loads without a signature, and test signing asks for an embedded one or a catalogue",
            SERVICE,
        ],
        |s| match table(s) {
            Some(directory) => Verdict::Pass(format!("{} bytes", directory.size)),
            None => Verdict::Fail("none".into()),
        },
    )
    .from(Policy::TestSigned),
    rule(
        Scope::Image,
        "sign.table-aligned",
        [
            "the certificate table starts at a multiple of 8 in the file",
            "readers of signatures refuse it",
            TABLE,
        ],
        |s| {
            signed(s, |table| {
                Verdict::when(table.rva.0.is_multiple_of(8), format!("{:#x}", table.rva.0))
            })
        },
    ),
    rule(
        Scope::Image,
        "sign.table-at-end",
        [
            "the certificate table ends where the file ends, behind all sections",
            "what is behind it is not signed, and what it covers is not either",
            TABLE,
        ],
        at_end,
    ),
    rule(
        Scope::Image,
        "sign.entries",
        [
            "the entries of the certificate table fill it, each a multiple of 8 bytes long",
            "readers of signatures stop at the first that does not fit",
            TABLE,
        ],
        |s| {
            signed(s, |table| match entries(s, table) {
                Some(Ok(list)) => Verdict::Pass(format!("{} entries", list.len())),
                Some(Err(problem)) => Verdict::Fail(problem),
                None => Verdict::none("the table is not in the file"),
            })
        },
    ),
    rule(
        Scope::Image,
        "sign.entry-kind",
        [
            "its entries have revision 2.0 and are PKCS #7 signed data",
            "Windows knows no other",
            TABLE,
        ],
        |s| {
            signed(s, |table| {
                let Some(Ok(list)) = entries(s, table) else {
                    return Verdict::none("the entries can't be read");
                };
                let odd = list.iter().filter(|kind| **kind != SIGNED_DATA);
                let text = |[revision, kind]: &[u16; 2]| format!("revision {revision:#x}, type {kind}");
                Verdict::of(odd.map(text).collect(), format!("{} entries", list.len()))
            })
        },
    ),
    rule(
        Scope::Image,
        "sign.digest",
        [
            "the signed digest is that of the file",
            "the file was changed after it was signed, and Windows refuses it",
            "Microsoft, \"Windows Authenticode Portable Executable Signature Format\"",
        ],
        |s| finding(s, |facts| &facts.digest),
    ),
    rule(
        Scope::Image,
        "sign.signature",
        [
            "the signature is that of the certificate that it names",
            "nobody trusts it",
            "Microsoft, \"Windows Authenticode Portable Executable Signature Format\"",
        ],
        |s| finding(s, |facts| &facts.signature),
    ),
    rule(
        Scope::Module,
        "sign.production-root",
        [
            "its chain ends at Microsoft Root Certificate Authority 2011",
            MICROSOFT_ONLY,
            SERVICE,
        ],
        |s| finding(s, |facts| &facts.production_root),
    )
    .from(Policy::Production),
    rule(
        Scope::Module,
        "sign.production-subject",
        [
            "the subject of its certificate is that of Microsoft's eBPF verification",
            MICROSOFT_ONLY,
            SERVICE,
        ],
        |s| finding(s, |facts| &facts.production_subject),
    )
    .from(Policy::Production),
    rule(
        Scope::Module,
        "sign.production-usages",
        [
            "its certificate is for code signing and eBPF verification",
            MICROSOFT_ONLY,
            SERVICE,
        ],
        |s| finding(s, |facts| &facts.production_usages),
    )
    .from(Policy::Production),
    rule(
        Scope::Image,
        "sign.page-hashes",
        [
            "the signature has a hash of each page",
            "pages are checked again when they are read from disk only with them",
            "Microsoft, \"Windows Authenticode Portable Executable Signature Format\"",
        ],
        |s| {
            fact(s, |facts| {
                facts
                    .page_hashes
                    .map(|there| (there, if there { "there" } else { "none" }.into()))
            })
        },
    )
    .weighing(Weight::Advice),
];

/// The data directory of the certificate table; its address is an offset in the file.
fn table(s: &Subject<'_>) -> Option<Directory> {
    s.image.directory(DirectoryKind::Certificate)
}

/// Judges the certificate table, if there is one.
fn signed(s: &Subject<'_>, judge: impl Fn(Directory) -> Verdict) -> Verdict {
    match table(s) {
        Some(directory) => judge(directory),
        None => Verdict::none("there is no embedded signature"),
    }
}

/// Judges what a reader of signatures found.
fn fact(s: &Subject<'_>, judge: impl Fn(&SignatureFacts) -> Option<(bool, String)>) -> Verdict {
    signed(s, |_| match judge(&s.options.signature) {
        Some((kept, measured)) => Verdict::when(kept, measured),
        None => Verdict::none("the signature was not read"),
    })
}

/// The same of what it found with the value that was there.
fn finding(s: &Subject<'_>, of: fn(&SignatureFacts) -> &Option<Finding>) -> Verdict {
    fact(s, |facts| {
        of(facts).clone().map(|Finding { kept, measured }| (kept, measured))
    })
}

fn at_end(s: &Subject<'_>) -> Verdict {
    signed(s, |table| {
        let (start, length) = (u64::from(table.rva.0), s.image.bytes.len() as u64);
        let end = start + u64::from(table.size);
        let raw_end = s
            .image
            .sections
            .iter()
            .map(|x| u64::from(x.raw_offset) + u64::from(x.raw_size))
            .max();
        let kept = end == length && raw_end.is_none_or(|raw| raw <= start);
        Verdict::when(kept, format!("{start:#x} to {end:#x}, the file has {length:#x} bytes"))
    })
}

/// Revision and type of each entry; `None` if the table is not in the file.
fn entries(s: &Subject<'_>, table: Directory) -> Option<Result<Vec<[u16; 2]>, String>> {
    let start = table.rva.0 as usize;
    let mut rest = s.image.bytes.get(start..start.checked_add(table.size as usize)?)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let Some(header) = rest.first_chunk::<8>() else {
            return Some(Err(format!("{} bytes are left", rest.len())));
        };
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let length = u64::from(half(0)) | u64::from(half(2)) << 16;
        // The length of an entry may leave out its padding.
        let padded = length.next_multiple_of(8);
        if length < HEADER || padded > rest.len() as u64 {
            return Some(Err(format!("an entry of {length} bytes where {} are left", rest.len())));
        }
        found.push([half(4), half(6)]);
        rest = &rest[padded as usize..];
    }
    Some(Ok(found))
}
