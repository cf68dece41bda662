//! The fields of a head: as they stood on HTTP/1.1, or in the map in which HTTP/2's come.
//!
//! # Why
//! Nearly all fields go through as they came. A map wants a name parsed, a value of its own, a hash and a place for each of
//! them, and all of that given back: for a small answer of five fields, a sixth of what the whole request costs. So what came
//! as text stays text, with places in it. What is asked of it is asked by looking through the few that are there.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::ops::Range;

/// Fields in their order. Names are in small letters.
#[derive(Clone)]
pub(super) struct Fields(Kind);

#[derive(Clone)]
enum Kind {
    Lines(Lines),
    /// In a box: heads are moved often.
    Map(Box<HeaderMap>),
}

/// Fields as text.
#[derive(Clone, Default)]
struct Lines {
    /// Names and values, and what was between them.
    text: Vec<u8>,
    places: Vec<Place>,
    /// The [marks](mark) of all names that are there, and perhaps of some that were: most questions are answered by these
    /// alone.
    marks: u64,
    /// The place of a value that never comes again.
    once: Option<usize>,
}

/// Where a field stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: Range<usize>,
    pub(super) value: Range<usize>,
}

impl Place {
    #[inline]
    fn of<'a>(&self, text: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let part = |range: &Range<usize>| text.get(range.clone()).unwrap_or_default();
        (part(&self.name), part(&self.value))
    }
}

impl Fields {
    /// Those that stand at `places` of `head`, whose names are tokens and whose values have no control characters.
    pub(super) fn of_lines(head: &[u8], places: Vec<Place>) -> Self {
        let mut text = Vec::with_capacity(head.len() + ADDED);
        text.extend_from_slice(head);
        let mut marks = 0;
        for place in &places {
            if let Some(name) = text.get_mut(place.name.clone()) {
                lower(name);
                marks |= mark(name);
            }
        }
        Self(Kind::Lines(Lines { text, places, marks, once: None }))
    }

    /// Names and values. A name that stands there more than once comes as often.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        match &self.0 {
            Kind::Lines(lines) => Iter::Lines(lines.iter()),
            Kind::Map(map) => Iter::Map(map.iter()),
        }
    }

    /// May a name be there that has one of `marks`?
    #[inline]
    pub(super) fn may_have(&self, marks: u64) -> bool {
        match &self.0 {
            Kind::Lines(lines) => lines.marks & marks != 0,
            Kind::Map(_) => true,
        }
    }

    #[inline]
    pub(super) fn has(&self, name: &HeaderName) -> bool {
        match &self.0 {
            Kind::Lines(_) => self.all(name).next().is_some(),
            Kind::Map(map) => map.contains_key(name),
        }
    }

    /// The first value of a field.
    #[inline]
    pub(super) fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of a field.
    #[inline]
    pub(super) fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let wanted = name.as_str().as_bytes();
        match &self.0 {
            Kind::Lines(lines) if lines.marks & mark(wanted) == 0 => Values::None,
            Kind::Lines(lines) => Values::Lines(wanted, lines.iter()),
            Kind::Map(map) => Values::Map(map.get_all(name).iter()),
        }
    }

    /// One more, behind the others. The value is one that a field may have; if not, nothing is added.
    pub(super) fn append(&mut self, name: &HeaderName, value: &[u8]) {
        match &mut self.0 {
            Kind::Lines(lines) => lines.append(name, value),
            Kind::Map(map) => {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    map.append(name, value);
                }
            }
        }
    }

    /// The same with a value that never comes again: in HTTP/2's table of fields it would drive out those that do.
    pub(super) fn append_once(&mut self, name: &HeaderName, value: &[u8]) {
        match &mut self.0 {
            Kind::Lines(lines) => {
                lines.append(name, value);
                lines.once = lines.places.last().map(|place| place.value.start);
            }
            Kind::Map(map) => {
                if let Ok(mut value) = HeaderValue::from_bytes(value) {
                    value.set_sensitive(true);
                    map.append(name, value);
                }
            }
        }
    }

    /// One instead of all that have its name.
    pub(super) fn insert(&mut self, name: &HeaderName, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    pub(super) fn remove(&mut self, name: &HeaderName) {
        match &mut self.0 {
            Kind::Lines(_) => self.remove_if(|found| found == name.as_str().as_bytes()),
            Kind::Map(map) => drop(map.remove(name)),
        }
    }

    /// Takes out those whose name `is_out`.
    pub(super) fn remove_if(&mut self, is_out: impl Fn(&[u8]) -> bool) {
        match &mut self.0 {
            Kind::Lines(Lines { text, places, .. }) => places.retain(|place| !is_out(place.of(text).0)),
            Kind::Map(map) => {
                let out: Vec<_> =
                    map.keys().filter(|name| is_out(name.as_str().as_bytes())).cloned().collect();
                for name in out {
                    map.remove(name);
                }
            }
        }
    }

    /// Writes those that are kept as lines of HTTP/1.1.
    pub(super) fn write(&self, mut is_kept: impl FnMut(&[u8]) -> bool, out: &mut Vec<u8>) {
        match &self.0 {
            Kind::Lines(lines) => lines.write(is_kept, out),
            Kind::Map(map) => {
                for (name, value) in map.iter() {
                    if is_kept(name.as_str().as_bytes()) {
                        line(name.as_str().as_bytes(), value.as_bytes(), out);
                    }
                }
            }
        }
    }

    /// A map of them.
    pub(super) fn into_map(self) -> HeaderMap {
        match self.0 {
            Kind::Lines(lines) => lines.into_map(),
            Kind::Map(map) => *map,
        }
    }

    /// A map of them.
    pub(super) fn to_map(&self) -> HeaderMap {
        match &self.0 {
            Kind::Lines(lines) => lines.clone().into_map(),
            Kind::Map(map) => HeaderMap::clone(map),
        }
    }
}

impl Lines {
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places.iter().map(|place| place.of(&self.text))
    }

    fn append(&mut self, name: &HeaderName, value: &[u8]) {
        let start = self.text.len();
        let name = name.as_str().as_bytes();
        self.marks |= mark(name);
        line(name, value, &mut self.text);
        let middle = start + name.len();
        let from = middle + BETWEEN.len();
        self.places.push(Place { name: start..middle, value: from..from + value.len() });
    }

    /// Lines that are as they would be written are copied as they stand, together with their neighbours.
    fn write(&self, mut is_kept: impl FnMut(&[u8]) -> bool, out: &mut Vec<u8>) {
        let mut run = 0..0;
        let text = |range: Range<usize>| self.text.get(range).unwrap_or_default();
        for place in &self.places {
            let (name, value) = place.of(&self.text);
            if !is_kept(name) {
                continue;
            }
            let end = place.value.end + LINE_END.len();
            let is_usual =
                text(place.name.end..place.value.start) == BETWEEN && text(place.value.end..end) == LINE_END;
            if is_usual && place.name.start == run.end {
                run.end = end;
                continue;
            }
            out.extend_from_slice(text(std::mem::replace(&mut run, end..end)));
            if is_usual {
                run.start = place.name.start;
            } else {
                line(name, value, out);
            }
        }
        out.extend_from_slice(text(run));
    }

    /// Values are slices of the text. Reading them has seen to it that all of them can be there.
    fn into_map(self) -> HeaderMap {
        let Self { text, places, once, .. } = self;
        let text = Bytes::from(text);
        let mut map = HeaderMap::with_capacity(places.len());
        for Place { name, value } in places {
            let is_once = once == Some(value.start);
            let name = HeaderName::from_bytes(text.get(name).unwrap_or_default());
            if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_maybe_shared(text.slice(value))) {
                value.set_sensitive(is_once);
                map.append(name, value);
            }
        }
        map
    }
}

/// Goes through fields, however they are kept.
enum Iter<L, M> {
    Lines(L),
    Map(M),
}

impl<'a, L, M> Iterator for Iter<L, M>
where
    L: Iterator<Item = (&'a [u8], &'a [u8])>,
    M: Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
{
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Lines(lines) => lines.next(),
            Self::Map(map) => map.next().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())),
        }
    }
}

/// Goes through the values of a field.
enum Values<'n, L, M> {
    None,
    /// Of those that have this name.
    Lines(&'n [u8], L),
    Map(M),
}

impl<'a, L, M> Iterator for Values<'_, L, M>
where
    L: Iterator<Item = (&'a [u8], &'a [u8])>,
    M: Iterator<Item = &'a HeaderValue>,
{
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::None => None,
            Self::Lines(wanted, lines) => lines.find(|(name, _)| name == wanted).map(|(_, value)| value),
            Self::Map(values) => values.next().map(HeaderValue::as_bytes),
        }
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self(Kind::Lines(Lines::default()))
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        Self(Kind::Map(Box::new(map)))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &[u8]| text.escape_ascii().to_string();
        f.debug_map().entries(self.iter().map(|(name, value)| (shown(name), shown(value)))).finish()
    }
}

/// A field's value as text, if all of it is visible.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    let is_visible = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
    if !value.iter().all(is_visible) {
        return None;
    }
    std::str::from_utf8(value).ok()
}

/// Writes one field as a line.
pub(super) fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + BETWEEN.len() + value.len() + LINE_END.len());
    out.extend_from_slice(name);
    out.extend_from_slice(BETWEEN);
    out.extend_from_slice(value);
    out.extend_from_slice(LINE_END);
}

/// Puts a name in small letters.
fn lower(name: &mut [u8]) {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let word = |chunk: &mut [u8; 8]| {
        let word = u64::from_ne_bytes(*chunk);
        // In each byte that is ASCII: its highest bit says whether it is from A on, or behind Z.
        let low = word & (EACH * 0x7f);
        let (from_a, behind_z) = (low + EACH * (0x80 - 0x41), low + EACH * (0x80 - 0x5b));
        let is_capital = from_a & !behind_z & !word & (EACH * 0x80);
        *chunk = (word | (is_capital >> 2)).to_ne_bytes();
    };
    if let Some(last) = name.last_chunk_mut::<8>() {
        // Once more for the bytes that were in the last one: they are small by then.
        word(last);
        name.as_chunks_mut::<8>().0.iter_mut().for_each(word);
    } else {
        name.make_ascii_lowercase();
    }
}

/// One bit of 64 for a name, by its length and its first and last byte. Others may have the same; of 40 that are usual,
/// two share theirs with another.
pub(super) const fn mark(name: &[u8]) -> u64 {
    match name {
        [first, .., last] => 1 << ((name.len() as u64 * 4 + *first as u64 * 4 + *last as u64 * 11) & 63),
        _ => 1,
    }
}

/// What stands between a name and its value, and behind that.
const BETWEEN: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";

/// Room for what an intermediary adds to a head.
const ADDED: usize = 128;

/// The same fields as text and in a map.
#[cfg(test)]
pub(super) fn both(fields: &[(&str, &str)]) -> [Fields; 2] {
    let (mut lines, mut map) = (Fields::default(), Fields::from(HeaderMap::new()));
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        lines.append(&name, value.as_bytes());
        map.append(&name, value.as_bytes());
    }
    [lines, map]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Something to do with fields.
    #[derive(Clone, Debug)]
    enum Act {
        Append(usize, u8),
        Insert(usize, u8),
        Remove(usize),
        RemoveIf(usize),
    }

    const NAMES: [&str; 4] = ["host", "x-a", "x-b", "content-length"];

    fn act() -> impl Strategy<Value = Act> {
        let name = || 0..NAMES.len();
        prop_oneof![
            (name(), any::<u8>()).prop_map(|(name, value)| Act::Append(name, value)),
            (name(), any::<u8>()).prop_map(|(name, value)| Act::Insert(name, value)),
            name().prop_map(Act::Remove),
            name().prop_map(Act::RemoveIf),
        ]
    }

    proptest! {
        #[test]
        fn text_is_as_good_as_a_map(acts in proptest::collection::vec(act(), 0..20)) {
            let [mut lines, mut map] = both(&[("x-a", "1"), ("host", "h"), ("x-a", "2")]);
            for act in acts {
                for fields in [&mut lines, &mut map] {
                    let name = |at: usize| HeaderName::from_static(NAMES[at]);
                    match &act {
                        Act::Append(at, value) => fields.append(&name(*at), value.to_string().as_bytes()),
                        Act::Insert(at, value) => fields.insert(&name(*at), value.to_string().as_bytes()),
                        Act::Remove(at) => fields.remove(&name(*at)),
                        Act::RemoveIf(at) => fields.remove_if(|found| found == NAMES[*at].as_bytes()),
                    }
                }
            }
            for name in NAMES.map(HeaderName::from_static) {
                let [of_lines, of_map] = [&lines, &map].map(|fields| fields.all(&name).collect::<Vec<_>>());
                prop_assert_eq!(of_lines, of_map);
                prop_assert_eq!(lines.has(&name), map.has(&name));
                prop_assert_eq!(lines.first(&name), map.first(&name));
            }
            let mut text = Vec::new();
            lines.write(|name| name != b"host", &mut text);
            let kept = lines.iter().filter(|(name, _)| *name != b"host");
            let expected = kept.map(|(name, value)| [name, b": ", value, b"\r\n"].concat());
            prop_assert_eq!(text, expected.collect::<Vec<_>>().concat());
            prop_assert_eq!(lines.to_map(), map.into_map());
        }
    }

    #[test]
    fn any_byte_becomes_small_wherever_it_is() {
        for byte in 0..=u8::MAX {
            for length in 1..20 {
                for at in 0..length {
                    let mut name = vec![b'Q'; length];
                    name[at] = byte;
                    let expected = name.to_ascii_lowercase();
                    lower(&mut name);
                    assert_eq!(name, expected, "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn names_are_in_small_letters_and_values_as_they_stand() {
        let places = vec![Place { name: 0..3, value: 5..6 }, Place { name: 8..11, value: 12..12 }];
        let fields = Fields::of_lines(b"X-Y: Z\r\nAbc:", places);
        let all: Vec<_> = fields.iter().collect();
        assert_eq!(all, [(&b"x-y"[..], &b"Z"[..]), (b"abc", b"")]);
        assert_eq!(fields.into_map()["x-y"], "Z");
    }

    #[test]
    fn only_a_value_that_never_comes_again_is_kept_out_of_tables() {
        let name = HeaderName::from_static("x-a");
        for mut fields in both(&[("x-a", "1")]) {
            fields.append_once(&name, b"2");
            fields.append(&name, b"3");
            let map = fields.into_map();
            let told: Vec<_> =
                map.get_all(&name).iter().map(|value| (value.as_bytes(), value.is_sensitive())).collect();
            assert_eq!(told, [(&b"1"[..], false), (b"2", true), (b"3", false)]);
        }
    }

    #[test]
    fn lines_are_written_alike_however_they_came() {
        let head = b"X: 1\r\nY: 2\r\nZ:3\r\nV:\t4\r\nU: 5 \r\nT: 6\r\nS: \r\n\r\n";
        let mut places = Vec::new();
        for (name, value) in [(0, 3..4), (6, 9..10), (12, 14..15), (17, 20..21), (23, 26..27), (30, 33..34)] {
            places.push(Place { name: name..name + 1, value });
        }
        places.push(Place { name: 36..37, value: 39..39 });
        let mut fields = Fields::of_lines(head, places);
        fields.append(&HeaderName::from_static("r"), b"8");
        fields.append(&HeaderName::from_static("q"), b"9");
        for (out, expected) in [
            ("", "x: 1\r\ny: 2\r\nz: 3\r\nv: 4\r\nu: 5\r\nt: 6\r\ns: \r\nr: 8\r\nq: 9\r\n"),
            ("y", "x: 1\r\nz: 3\r\nv: 4\r\nu: 5\r\nt: 6\r\ns: \r\nr: 8\r\nq: 9\r\n"),
            ("xztr", "y: 2\r\nv: 4\r\nu: 5\r\ns: \r\nq: 9\r\n"),
        ] {
            let mut written = Vec::new();
            fields.write(|name| !out.as_bytes().contains(&name[0]), &mut written);
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
    }
}
