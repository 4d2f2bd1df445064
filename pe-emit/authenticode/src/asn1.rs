//! DER, read in place and written in one go.
//!
//! A signature is over bytes as they stand, so nothing is decoded and encoded again: each element keeps the bytes that it
//! was read from. Sets are taken in any order, because signatures in the field have them so; lengths must be minimal
//! (X.690 §10.1), and indefinite ones are refused.

use der::asn1::ObjectIdentifier;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0C;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The tag `[number]` of a constructed element.
pub(crate) const fn context(number: u8) -> u8 {
    0xA0 | number
}

/// The tag `[number]` of a primitive element.
pub(crate) const fn context_primitive(number: u8) -> u8 {
    0x80 | number
}

/// What is wrong with an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Asn1Error {
    /// It ends inside of an element.
    #[error("it is cut off")]
    Truncated,
    /// A length is not the shortest form, is indefinite, or is larger than 4 GiB.
    #[error("a length is not encoded as DER")]
    Length,
    /// An element has a tag of several bytes.
    #[error("a tag is not one that such structures have")]
    Tag,
    /// There is another element than there should be.
    #[error("an element is missing or of the wrong type")]
    Unexpected,
    /// There is more behind the last element.
    #[error("there is something behind its end")]
    Trailing,
    /// The contents of an element mean nothing.
    #[error("a value is malformed")]
    Value,
}

/// An element: tag, length and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub tag: u8,
    pub value: &'a [u8],
    /// Tag, length and value.
    pub whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The elements inside.
    pub(crate) fn reader(&self) -> Reader<'a> {
        Reader::new(self.value)
    }

    pub(crate) fn object_identifier(&self) -> Result<ObjectIdentifier, Asn1Error> {
        if self.tag != OBJECT_IDENTIFIER {
            return Err(Asn1Error::Unexpected);
        }
        ObjectIdentifier::from_bytes(self.value).map_err(|_| Asn1Error::Value)
    }
}

/// Reads elements one after another.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self) -> Result<Element<'a>, Asn1Error> {
        let [tag, first, rest @ ..] = self.rest else {
            return Err(Asn1Error::Truncated);
        };
        if tag & 0x1F == 0x1F {
            return Err(Asn1Error::Tag);
        }
        let (length, header) = match *first {
            short @ 0..=0x7F => (usize::from(short), 2),
            long @ 0x81..=0x84 => {
                let count = usize::from(long & 0x7F);
                let digits = rest.get(..count).ok_or(Asn1Error::Truncated)?;
                let length = digits.iter().fold(0u64, |sum, digit| sum << 8 | u64::from(*digit));
                if digits[0] == 0 || length < 0x80 {
                    return Err(Asn1Error::Length);
                }
                (usize::try_from(length).map_err(|_| Asn1Error::Length)?, 2 + count)
            }
            _ => return Err(Asn1Error::Length),
        };
        let end = header.checked_add(length).ok_or(Asn1Error::Length)?;
        let (whole, rest) = self.rest.split_at_checked(end).ok_or(Asn1Error::Truncated)?;
        self.rest = rest;
        Ok(Element {
            tag: *tag,
            value: &whole[header..],
            whole,
        })
    }

    /// The next element, which must have this tag.
    pub(crate) fn element(&mut self, tag: u8) -> Result<Element<'a>, Asn1Error> {
        match self.rest.first() {
            Some(found) if *found == tag => self.any(),
            _ => Err(Asn1Error::Unexpected),
        }
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Asn1Error> {
        match self.rest.first() {
            Some(found) if *found == tag => self.any().map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn sequence(&mut self) -> Result<Reader<'a>, Asn1Error> {
        self.element(SEQUENCE).map(|element| element.reader())
    }

    pub(crate) fn object_identifier(&mut self) -> Result<ObjectIdentifier, Asn1Error> {
        self.element(OBJECT_IDENTIFIER)?.object_identifier()
    }

    /// A number of at most 32 bits that is not negative.
    pub(crate) fn small_integer(&mut self) -> Result<u32, Asn1Error> {
        let value = self.element(INTEGER)?.value;
        match value {
            [] => Err(Asn1Error::Value),
            [first, ..] if *first >= 0x80 || value.len() > 5 => Err(Asn1Error::Value),
            [0, second, ..] if *second < 0x80 => Err(Asn1Error::Value),
            digits => {
                let number = digits.iter().fold(0u64, |sum, digit| sum << 8 | u64::from(*digit));
                u32::try_from(number).map_err(|_| Asn1Error::Value)
            }
        }
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), Asn1Error> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Asn1Error::Trailing)
        }
    }
}

/// The only element of `bytes`, with this tag.
pub(crate) fn only(bytes: &[u8], tag: u8) -> Result<Element<'_>, Asn1Error> {
    let mut reader = Reader::new(bytes);
    let element = reader.element(tag)?;
    reader.end()?;
    Ok(element)
}

/// An element with the concatenation of `parts` as value.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length + 6);
    bytes.push(tag);
    let digits = (length as u64).to_be_bytes();
    if length < 0x80 {
        bytes.push(length as u8);
    } else {
        let significant = &digits[length.leading_zeros() as usize / 8 + digits.len() - size_of::<usize>()..];
        bytes.push(0x80 | significant.len() as u8);
        bytes.extend(significant);
    }
    for part in parts {
        bytes.extend(*part);
    }
    bytes
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, parts)
}

/// A set of elements, in the order of X.690 §11.6.
pub(crate) fn set_of(tag: u8, mut elements: Vec<Vec<u8>>) -> Vec<u8> {
    elements.sort();
    let parts: Vec<&[u8]> = elements.iter().map(Vec::as_slice).collect();
    element(tag, &parts)
}

pub(crate) fn object_identifier(oid: ObjectIdentifier) -> Vec<u8> {
    element(OBJECT_IDENTIFIER, &[oid.as_bytes()])
}

/// A number that is not negative, of big-endian digits.
pub(crate) fn unsigned(digits: &[u8]) -> Vec<u8> {
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    match &digits[zeros..] {
        [] => element(INTEGER, &[&[0]]),
        significant if significant[0] >= 0x80 => element(INTEGER, &[&[0], significant]),
        significant => element(INTEGER, &[significant]),
    }
}

/// `AlgorithmIdentifier` with parameters, which are encoded already; none are none.
pub(crate) fn algorithm(oid: ObjectIdentifier, parameters: &[u8]) -> Vec<u8> {
    sequence(&[&object_identifier(oid), parameters])
}

/// The encoding of NULL.
pub(crate) const NULL_ELEMENT: &[u8] = &[NULL, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_they_are_read() {
        for length in [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x1_0000] {
            let written = element(OCTET_STRING, &[&vec![7; length]]);
            let read = only(&written, OCTET_STRING).unwrap();
            assert_eq!((read.value.len(), read.whole.len()), (length, written.len()));
        }
        assert_eq!(element(OCTET_STRING, &[&[7; 0x80]])[..3], [OCTET_STRING, 0x81, 0x80]);
    }

    #[test]
    fn what_is_not_der_is_refused() {
        for (bytes, error) in [
            (&[][..], Asn1Error::Unexpected),
            (&[0x30], Asn1Error::Truncated),
            (&[0x30, 0x01], Asn1Error::Truncated),
            (&[0x30, 0x80, 0x00, 0x00], Asn1Error::Length),
            (&[0x30, 0x81, 0x01, 0x00], Asn1Error::Length),
            (&[0x30, 0x82, 0x00, 0x80], Asn1Error::Length),
            (&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF], Asn1Error::Truncated),
            (&[0x30, 0x85, 1, 0, 0, 0, 0], Asn1Error::Length),
            (&[0x30, 0x00, 0x00], Asn1Error::Trailing),
            (&[0x31, 0x00], Asn1Error::Unexpected),
        ] {
            assert_eq!(only(bytes, SEQUENCE), Err(error), "{bytes:x?}");
        }
        assert_eq!(Reader::new(&[0x1F, 0x01, 0x00]).any(), Err(Asn1Error::Tag));
    }

    #[test]
    fn numbers_have_the_fewest_digits_and_a_sign_bit() {
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0, 0x7F]), [2, 1, 0x7F]);
        let read = |bytes| Reader::new(bytes).small_integer();
        assert_eq!(read(&[2, 5, 0, 0xFF, 0xFF, 0xFF, 0xFF]), Ok(u32::MAX));
        assert_eq!(read(&[2, 2, 0, 1]), Err(Asn1Error::Value));
        assert_eq!(read(&[2, 1, 0x80]), Err(Asn1Error::Value));
        assert_eq!(read(&[2, 0]), Err(Asn1Error::Value));
    }

    #[test]
    fn sets_are_sorted() {
        let set = set_of(SET, vec![vec![2, 1, 9], vec![2, 1, 3]]);
        assert_eq!(set, [SET, 6, 2, 1, 3, 2, 1, 9]);
    }
}
