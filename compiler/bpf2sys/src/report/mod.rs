//! A page about a driver, for whoever signs or reviews it: `bpf2sys report`.
//!
//! Given: an image, what other parts of this tool found out about it, and, where it is known, the verified module that its code was
//! made of. Computed: one HTML file that needs no other and runs nothing.
//!
//! Safe because: what is shown comes from files that nobody has to trust. Every text is escaped where it becomes part of the page
//! ([`html`]), ids and links are made of words of this program and of numbers, a Content-Security-Policy forbids everything but the
//! page's own style, and everything is bounded: [`parts::MAX_ROWS`] rows of a table, [`code::MAX_LINES`] lines of code in all and
//! [`code::MAX_FUNCTION_LINES`] of a function, [`graph::MAX_BLOCKS`] blocks of a graph, and the letters of a text. What is left out is
//! told. The same input gives the same page: there is no time of day in it.

mod blocks;
mod code;
mod coverage;
mod graph;
mod html;
mod image;
mod maps;
mod native;
mod page;
mod parts;
mod programs;
mod rules;
mod summary;
mod trust;
mod types;
mod uses;

use bpf2sys_authenticode::Time;
use bpf2sys_codegen::Lowered;
use bpf2sys_platform::{Platform, ProgramType};
use bpf2sys_simulator::SimulatorError;
use bpf2sys_simulator::describe::{ImageDescription, describe};
use bpf2sys_simulator::usermode::UserModeProgram;
use bpf2sys_testing::coverage::Coverage;
use bpf2sys_verifier::{VerifiedModule, VerifiedProgram};

pub(crate) use self::coverage::coverage_page;
use crate::Error;
use crate::provenance::Statement;

/// What a page is about.
pub(crate) struct Subject<'a> {
    /// The file, as the user named it.
    pub file: &'a str,
    /// The object that the image was just built from, if the file is that one.
    pub object: Option<&'a [u8]>,
    /// The image.
    pub image: &'a [u8],
    pub platform: &'a Platform,
    /// What the image's code was made of, or why that is not known.
    pub source: Result<Source<'a>, &'a Unknown>,
    /// What `bpf2sys check` finds.
    pub check: &'a bpf2sys_check::Report,
    /// What `bpf2sys signature` finds, or why it finds nothing.
    pub signatures: Result<&'a bpf2sys_authenticode::Report, String>,
    /// The time that certificates without a timestamp are judged at, if the user named one.
    pub at: Option<Time>,
    /// The statement of provenance beside the image, with its name, or why it can't be read.
    pub statement: Option<(&'a str, Result<&'a Statement, String>)>,
    /// How often lines of the source ran.
    pub coverage: Option<&'a Coverage>,
}

/// What code was made of.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// SHA-256 of the object.
    pub object: &'a str,
    pub verified: &'a VerifiedModule,
    pub lowered: &'a Lowered,
    /// What of the image is not as building the object again gives it, signatures aside; none of the code is.
    pub difference: Option<&'a str>,
}

/// Why it is not known what code was made of.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unknown {
    /// There is no object.
    #[error("no object is beside the image whose hash the image states; `--object` names one")]
    NoObject,
    /// The object gives other code.
    #[error("building `{object}` again gives other code than the image has")]
    OtherCode {
        /// Its name.
        object: String,
    },
    /// The object gives no image.
    #[error("`{object}` can't be built again: {why}")]
    NotBuilt {
        /// Its name.
        object: String,
        /// Why.
        why: String,
    },
}

/// A subject with what the image says about itself.
struct Context<'a> {
    subject: &'a Subject<'a>,
    image: ImageDescription,
}

impl<'a> Context<'a> {
    fn source(&self) -> Option<Source<'a>> {
        self.subject.source.as_ref().ok().copied()
    }

    /// The type of a program of the image, if the platform knows it.
    fn program_type(&self, program: &UserModeProgram) -> Option<&'a ProgramType> {
        let types = &self.subject.platform.program_types;
        types
            .iter()
            .find(|t| t.guid.to_string() == program.program_type)
            .map(AsRef::as_ref)
    }

    /// The proof of a program of the image.
    fn proof(&self, program: &UserModeProgram) -> Option<(&'a VerifiedModule, &'a VerifiedProgram)> {
        let verified = self.source()?.verified;
        let mut all = verified.programs().iter();
        let found = all.find(|proven| verified.module().function(proven.function).name == program.name)?;
        Some((verified, found))
    }

    /// The programs of the image.
    fn programs(&self) -> &[UserModeProgram] {
        self.image.module.as_ref().map_or(&[], |module| &module.programs)
    }
}

/// The page.
///
/// # Errors
/// There is no image.
pub(crate) fn page(subject: &Subject<'_>) -> Result<String, Error> {
    let image = describe(subject.image).map_err(SimulatorError::from)?;
    Ok(page::write(&Context { subject, image }))
}

#[cfg(test)]
mod tests {
    use bpf2sys_authenticode::{VerifyOptions, verify};
    use bpf2sys_check::check;

    use super::*;
    use crate::pipeline::link;
    use crate::{BuildOptions, Form, Machine};

    /// The page of an example with this coverage.
    fn page_of(name: &str, coverage: Option<&Coverage>) -> String {
        let object = std::fs::read(format!("../../examples/{name}/{name}.o")).unwrap();
        let options = BuildOptions::default();
        let platform = options.providers.platform();
        let verified = crate::verify(&object, &format!("{name}.o"), &options).unwrap();
        let linked = link(&verified, &options, Machine::X64, Form::Sys).unwrap();
        let image = linked.image.bytes();
        let rules = check(image, &bpf2sys_check::Options::default(), platform).unwrap();
        let signatures = verify(image, &VerifyOptions::default()).unwrap();
        let subject = Subject {
            file: &format!("{name}.o"),
            object: Some(&object),
            image,
            platform,
            source: Ok(Source {
                object: "",
                verified: &verified,
                lowered: &linked.lowered,
                difference: None,
            }),
            check: &rules,
            signatures: Ok(&signatures),
            at: None,
            statement: None,
            coverage,
        };
        page(&subject).unwrap()
    }

    #[test]
    fn lines_that_ran_and_did_not_run_are_marked() {
        let file = "examples/udp_filter/udp_filter.c";
        let tracefile = format!("SF:{file}\nDA:176,5\nDA:178,0\nDA:181,12\nDA:9999,1\nend_of_record\n");
        let coverage = Coverage::from_lcov(&tracefile).unwrap();
        let page = page_of("udp_filter", Some(&coverage));
        assert!(page.contains("2 of 3 (66.6 %)"));
        for mark in [r#"class="ran""#, r#"class="never-ran""#, ">5×<", ">0×<", ">12×<"] {
            assert!(page.contains(mark), "{mark}");
        }
        let without = page_of("udp_filter", None);
        assert!(!without.contains("Lines that ran") && !without.contains(r#"class="ran""#));
    }

    #[test]
    fn what_programs_can_do_is_what_their_sources_say() {
        // `context->user_ip4 = rule->address`, and so on.
        let redirects = page_of("connect_redirect", None);
        assert!(redirects.contains(
            "Writes the context&#39;s <code>user_ip4</code>, <code>user_ip6</code>, <code>user_port</code>."
        ));
        let filters = page_of("udp_filter", None);
        assert!(filters.contains("Writes no field of its context."));
        assert!(filters.contains("Reads the data that its context points to."));
        assert!(filters.contains("Changes <code>counters</code>."));
        assert!(filters.contains(
            "Returns <code>XDP_PASS</code> (let the frame continue), <code>XDP_DROP</code> (drop the frame)."
        ));
        let dispatches = page_of("tail_dispatch", None);
        assert!(dispatches.contains("Can hand over to other programs (tail calls)"));
    }
}
