//! Parsing of D-Bus values in GLib's text format: `uint64 5`, `'text'`, `['a.service', 'b.service']`.

use anyhow::{Context, Result, bail, ensure};
use zvariant::{Array, ObjectPath, Signature, Value};

/// The maximum nesting of arrays and variants.
const DEPTH: u32 = 16;

/// Parses a value. A number without a type is an `int32`, with a point or exponent a `double`.
///
/// # Errors
/// The text is malformed; structures and dictionaries are not supported.
pub(super) fn parse(text: &str) -> Result<Value<'static>> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, DEPTH)?;
    parser.blanks();
    ensure!(parser.rest.is_empty(), "{:?} is too much", parser.rest);
    Ok(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Consumes a sign if it comes next.
    fn sign(&mut self, sign: char) -> bool {
        self.blanks();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| c.is_whitespace() || ",]>".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn value(&mut self, wanted: Option<&Signature>, depth: u32) -> Result<Value<'static>> {
        let depth = depth.checked_sub(1).context("it is too deep")?;
        self.blanks();
        match self.rest.chars().next().context("a value is missing")? {
            quote @ ('\'' | '"') => string(self.quoted(quote)?, wanted),
            '[' => self.array(wanted, depth),
            '<' => {
                self.sign('<');
                let inner = self.value(None, depth)?;
                ensure!(self.sign('>'), "`>` is missing");
                Ok(Value::Value(Box::new(inner)))
            }
            '@' => {
                self.sign('@');
                let signature = Signature::try_from(self.word()).ok().context("no type")?;
                self.value(Some(&signature), depth)
            }
            _ => {
                let word = self.word();
                match (named(word), word) {
                    (Some(signature), _) => self.value(Some(&signature), depth),
                    (None, "true") => Ok(true.into()),
                    (None, "false") => Ok(false.into()),
                    (None, number) => scalar(number, wanted).with_context(|| format!("{number:?} is no value")),
                }
            }
        }
    }

    fn array(&mut self, wanted: Option<&Signature>, depth: u32) -> Result<Value<'static>> {
        self.sign('[');
        let mut element = match wanted {
            Some(Signature::Array(child)) => Some(child.signature().clone()),
            Some(other) => bail!("an array is no {other}"),
            None => None,
        };
        let mut values = Vec::new();
        while !self.sign(']') {
            ensure!(values.is_empty() || self.sign(','), "`,` is missing");
            let value = self.value(element.as_ref(), depth)?;
            element.get_or_insert_with(|| value.value_signature().clone());
            values.push(value);
        }
        let mut array = Array::new(&element.context("of what is this an array?")?);
        values.into_iter().try_for_each(|value| array.append(value))?;
        Ok(array.into())
    }

    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut plain = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, character)) = chars.next() {
            match character {
                '\\' => plain.push(match chars.next().context("the text does not end")?.1 {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'u' => {
                        let digits: String = chars.by_ref().take(4).map(|(_, digit)| digit).collect();
                        u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).context("no character")?
                    }
                    other => other,
                }),
                end if end == quote => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(plain);
                }
                other => plain.push(other),
            }
        }
        bail!("the text does not end")
    }
}

fn named(word: &str) -> Option<Signature> {
    Some(match word {
        "boolean" => Signature::Bool,
        "byte" => Signature::U8,
        "int16" => Signature::I16,
        "uint16" => Signature::U16,
        "int32" => Signature::I32,
        "uint32" => Signature::U32,
        "int64" => Signature::I64,
        "uint64" => Signature::U64,
        "double" => Signature::F64,
        "string" => Signature::Str,
        "objectpath" => Signature::ObjectPath,
        "signature" => Signature::Signature,
        _ => return None,
    })
}

fn string(text: String, wanted: Option<&Signature>) -> Result<Value<'static>> {
    Ok(match wanted {
        None | Some(Signature::Str) => text.into(),
        Some(Signature::ObjectPath) => ObjectPath::try_from(text)?.into(),
        Some(Signature::Signature) => Value::Signature(Signature::try_from(text.as_str()).ok().context("no type")?),
        Some(other) => bail!("a text is no {other}"),
    })
}

fn scalar(word: &str, wanted: Option<&Signature>) -> Option<Value<'static>> {
    let hexadecimal = word.trim_start_matches(['-', '+']).starts_with("0x");
    let fraction = !hexadecimal && word.contains(['.', 'e', 'E']);
    let inferred = if fraction { Signature::F64 } else { Signature::I32 };
    let wanted = wanted.unwrap_or(&inferred);
    if matches!(wanted, Signature::F64) {
        return word.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::F64);
    }
    let (negative, digits) = word.strip_prefix('-').map_or((false, word), |digits| (true, digits));
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let number = match digits.strip_prefix("0x") {
        Some(digits) => i128::from(u64::from_str_radix(digits, 16).ok()?),
        None if digits.len() > 1 && digits.starts_with('0') => i128::from(u64::from_str_radix(digits, 8).ok()?),
        None => i128::from(digits.parse::<u64>().ok()?),
    };
    let number = if negative { -number } else { number };
    Some(match wanted {
        Signature::U8 => Value::U8(number.try_into().ok()?),
        Signature::I16 => Value::I16(number.try_into().ok()?),
        Signature::U16 => Value::U16(number.try_into().ok()?),
        Signature::I32 => Value::I32(number.try_into().ok()?),
        Signature::U32 => Value::U32(number.try_into().ok()?),
        Signature::I64 => Value::I64(number.try_into().ok()?),
        Signature::U64 => Value::U64(number.try_into().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_values() {
        let number = |text: &str| parse(text).unwrap();
        assert_eq!(number("5"), Value::I32(5));
        assert_eq!(number(" uint64 18446744073709551615 "), Value::U64(u64::MAX));
        assert_eq!(number("byte 0x1f"), Value::U8(31));
        assert_eq!(number("@q 010"), Value::U16(8));
        assert_eq!(number("int64 -3"), Value::I64(-3));
        assert_eq!(number("2.5"), Value::F64(2.5));
        assert_eq!(number("true"), Value::Bool(true));
        assert_eq!(number(r#"'it\'s \u0041'"#), Value::from("it's A"));
        assert_eq!(number("objectpath '/a/b'"), ObjectPath::try_from("/a/b").unwrap().into());
        assert_eq!(number("['a', \"b\"]"), Value::from(vec!["a", "b"]));
        assert_eq!(number("[uint32 1, 2]"), Value::from(vec![1_u32, 2]));
        assert_eq!(number("@as []"), Value::from(Vec::<String>::new()));
        assert_eq!(number("<5>"), Value::Value(Box::new(Value::I32(5))));
    }

    #[test]
    fn what_is_none_is_refused() {
        let deep = "[".repeat(5000);
        for bad in [
            "",
            "x",
            "'a",
            "[]",
            "[1, 'a']",
            "1 2",
            "byte 256",
            "uint32 -1",
            "@as 5",
            "(1, 2)",
            "5x",
            "'\\u12'",
            "<5",
            &deep,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
