//! The template of a command: words with placeholders. No shell has part in it.

use std::path::Path;

/// What kind of thing the command signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signs {
    /// `{digest}` or `{digest_info}`
    Digests,
    /// `{file}`
    Files,
}

/// A command: a program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    words: Vec<String>,
    pub signs: Signs,
}

/// What stands for the placeholders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub file: Option<&'a Path>,
    pub digest: Option<&'a Path>,
    pub digest_info: Option<&'a Path>,
    pub signature: Option<&'a Path>,
    pub algorithm: &'a str,
}

const PLACEHOLDERS: [&str; 5] = ["{file}", "{digest}", "{digest_info}", "{signature}", "{algorithm}"];

impl Template {
    /// Parses words with spaces between; in quotes, single or double, spaces are part of a word. There are no escapes, so that
    /// paths of Windows can be written as they are.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        let words = words(text)?;
        let Some((program, arguments)) = words.split_first() else {
            return Err("it is empty".into());
        };
        if program.contains('{') {
            return Err("the program itself is no placeholder".into());
        }
        for word in arguments {
            let mut rest = word.as_str();
            while let Some(start) = rest.find('{') {
                let known = PLACEHOLDERS.iter().find(|p| rest[start..].starts_with(**p));
                let Some(known) = known else {
                    let list = PLACEHOLDERS.join(", ");
                    return Err(format!(
                        "`{word}` has a `{{` that begins no placeholder; those are {list}"
                    ));
                };
                rest = &rest[start + known.len()..];
            }
        }
        let has = |placeholder: &str| arguments.iter().any(|word| word.contains(placeholder));
        let signs = match (
            has("{digest}") || has("{digest_info}"),
            has("{signature}"),
            has("{file}"),
        ) {
            (true, true, false) => Signs::Digests,
            (false, false, true) => Signs::Files,
            (true, false, false) => return Err("with `{digest}` it needs `{signature}`, the file to write".into()),
            (true, _, true) => return Err("it has both `{digest}` and `{file}`: one of them says what it signs".into()),
            (false, true, _) => return Err("`{signature}` is of no use without `{digest}`".into()),
            (false, false, false) => return Err("it has neither `{digest}` nor `{file}`: what is it to sign?".into()),
        };
        Ok(Template { words, signs })
    }

    /// The program, and its arguments with values for the placeholders.
    pub(crate) fn fill(&self, values: Values<'_>) -> (&str, Vec<String>) {
        let path = |path: Option<&Path>| path.map_or(String::new(), |path| path.display().to_string());
        let filled = self.words[1..].iter().map(|word| {
            word.replace("{file}", &path(values.file))
                .replace("{digest}", &path(values.digest))
                .replace("{digest_info}", &path(values.digest_info))
                .replace("{signature}", &path(values.signature))
                .replace("{algorithm}", values.algorithm)
        });
        (&self.words[0], filled.collect())
    }
}

fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        let template = Template::parse(r#"C:\a\sign.exe -p 'a b' --x="c d"e '' {file}"#).unwrap();
        let values = Values {
            file: Some(Path::new("f.sys")),
            digest: None,
            digest_info: None,
            signature: None,
            algorithm: "sha256",
        };
        let (program, arguments) = template.fill(values);
        assert_eq!(program, r"C:\a\sign.exe");
        assert_eq!(arguments, ["-p", "a b", "--x=c de", "", "f.sys"]);
        assert_eq!(template.signs, Signs::Files);
    }

    #[test]
    fn placeholders_may_be_parts_of_words() {
        let template =
            Template::parse("kms sign --in=@{digest} -i {digest_info} --out={signature} --alg {algorithm}").unwrap();
        assert_eq!(template.signs, Signs::Digests);
        let values = Values {
            file: None,
            digest: Some(Path::new("d")),
            digest_info: Some(Path::new("i")),
            signature: Some(Path::new("s")),
            algorithm: "sha384",
        };
        assert_eq!(
            template.fill(values).1,
            ["sign", "--in=@d", "-i", "i", "--out=s", "--alg", "sha384"]
        );
    }

    #[test]
    fn templates_that_make_no_sense_are_refused() {
        for (text, part) in [
            ("", "empty"),
            ("sign", "neither"),
            ("sign {digest}", "needs `{signature}`"),
            ("sign {signature}", "no use"),
            ("sign {digest} {signature} {file}", "both"),
            ("sign {files}", "begins no placeholder"),
            ("sign '{file}", "not closed"),
            ("{file} sign", "no placeholder"),
        ] {
            let error = Template::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
