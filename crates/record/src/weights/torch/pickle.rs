//! Reads the pickle of a `torch.save` file without running it.
//!
//! A pickle is a program for a stack machine (CPython's Lib/pickletools.py documents every
//! instruction). What makes it dangerous is that it may import any object and call it. Here an
//! import gives one of a few names ([`Known`]), a call one of three results, and there is nothing
//! else to be called: whatever the bytes are, they become a description of tensors or a sentence.

use std::collections::BTreeMap;

/// Part of the file that tensors share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Name of the entry that holds it.
    pub key: String,
    /// The type of its values as safetensors writes it, and the bytes of one.
    pub dtype: &'static str,
    pub size: u64,
}

/// A tensor, all in values and not in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub storage: Storage,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Tensor,
    Parameter,
    Dictionary,
    Storage(&'static str, u64),
}

/// What lies on the stack. Containers are places in the machine's list, since a pickle fills them
/// after it has noted them.
#[derive(Clone, Debug)]
enum Value {
    /// Numbers that are no whole ones, nothing: never part of a tensor's description.
    Plain,
    Int(i64),
    Text(String),
    Tuple(Vec<Value>),
    List(usize),
    Dictionary(usize),
    Known(Known),
    Storage(Storage),
    Tensor(Found),
    Mark,
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    notes: BTreeMap<u64, Value>,
    lists: Vec<Vec<Value>>,
    dictionaries: Vec<Vec<(Value, Value)>>,
    /// Values that tuples were made of: a bound on what copies of copies can add up to.
    copied: usize,
}

/// A tensor takes some fifty: room for eighty thousand.
const COPIED_MOST: usize = 1 << 22;

/// The tensors by name that a pickle describes: a dictionary of them, or one under `state_dict`.
///
/// # Errors
/// In words; names what the pickle wants to import where that is not allowed.
pub fn tensors(bytes: &[u8]) -> Result<Vec<(String, Found)>, String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        notes: BTreeMap::new(),
        lists: Vec::new(),
        dictionaries: Vec::new(),
        copied: 0,
    };
    let result = machine.run()?;
    let Value::Dictionary(mut place) = result else {
        return Err("holds no dictionary of tensors, as a state_dict is".to_owned());
    };
    let named = |place: usize, name: &str| {
        let entries = &machine.dictionaries[place];
        entries.iter().find_map(|(key, value)| match (key, value) {
            (Value::Text(key), Value::Dictionary(inner)) if key == name => Some(*inner),
            _ => None,
        })
    };
    if let Some(inner) = named(place, "state_dict").or_else(|| named(place, "model")) {
        place = inner;
    }
    let of = |(key, value): (Value, Value)| match (key, value) {
        (Value::Text(name), Value::Tensor(tensor)) => Some((name, tensor)),
        _ => None,
    };
    Ok(std::mem::take(&mut machine.dictionaries[place]).into_iter().filter_map(of).collect())
}

/// The name that a pickle may import.
fn known(module: &str, name: &str) -> Result<Known, String> {
    let storage = |dtype, size| Ok(Known::Storage(dtype, size));
    match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Known::Tensor),
        ("torch._utils", "_rebuild_parameter") => Ok(Known::Parameter),
        ("collections", "OrderedDict") => Ok(Known::Dictionary),
        ("torch", "FloatStorage") => storage("F32", 4),
        ("torch", "HalfStorage") => storage("F16", 2),
        ("torch", "BFloat16Storage") => storage("BF16", 2),
        ("torch", "DoubleStorage") => storage("F64", 8),
        ("torch", "LongStorage") => storage("I64", 8),
        ("torch", "IntStorage") => storage("I32", 4),
        ("torch", "ShortStorage") => storage("I16", 2),
        ("torch", "CharStorage") => storage("I8", 1),
        ("torch", "ByteStorage") => storage("U8", 1),
        ("torch", "BoolStorage") => storage("BOOL", 1),
        _ => Err(format!(
            "the pickle wants to import {module}.{name}, which is not part of a file of weights \
             and could run anything: refused"
        )),
    }
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value, String> {
        loop {
            let code = self.byte()?;
            if code == b'.' {
                return self.pop();
            }
            if !(self.push_constant(code)? || self.build(code)? || self.memory(code)?) {
                return Err(format!(
                    "the pickle has the instruction 0x{code:02x}, which no file of weights needs: \
                     refused"
                ));
            }
        }
    }

    /// Instructions that put something on the stack.
    fn push_constant(&mut self, code: u8) -> Result<Handled, String> {
        let value = match code {
            // The protocol's version, and frames: nothing to do.
            0x80 => return self.take(1).map(|_| true),
            0x95 => return self.take(8).map(|_| true),
            b'(' => Value::Mark,
            b'N' | 0x88 | 0x89 => Value::Plain,
            b'G' => {
                self.take(8)?;
                Value::Plain
            }
            b'K' => Value::Int(self.number(1)? as i64),
            b'M' => Value::Int(self.number(2)? as i64),
            b'J' => Value::Int(i64::from(self.number(4)? as u32 as i32)),
            0x8a => Value::Int(self.long()?),
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'T' => self.text(4)?,
            b'U' => self.text(1)?,
            b')' => Value::Tuple(Vec::new()),
            b']' => self.list(Vec::new()),
            b'}' => self.dictionary(Vec::new()),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Value::Known(known(&module, &name)?)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => Value::Known(known(&module, &name)?),
                _ => return Err(damaged()),
            },
            _ => return Ok(false),
        };
        self.stack.push(value);
        Ok(true)
    }

    /// Instructions that make one thing of several.
    fn build(&mut self, code: u8) -> Result<Handled, String> {
        let value = match code {
            b't' => {
                let parts = self.since_mark()?;
                self.tuple(parts)?
            }
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(code - 0x84));
                let parts = self.stack.split_off(start.ok_or_else(damaged)?);
                self.tuple(parts)?
            }
            b'a' => {
                let value = self.pop()?;
                return self.extend_list(vec![value]).map(|()| true);
            }
            b'e' => {
                let values = self.since_mark()?;
                return self.extend_list(values).map(|()| true);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                return self.extend_dictionary(vec![key, value]).map(|()| true);
            }
            b'u' => {
                let values = self.since_mark()?;
                return self.extend_dictionary(values).map(|()| true);
            }
            b'Q' => storage(self.pop()?)?,
            b'R' => {
                let (arguments, called) = (self.pop()?, self.pop()?);
                self.call(called, arguments)?
            }
            b'b' => {
                // What a dictionary notes beside its entries (`_metadata`) is not needed.
                self.pop()?;
                return match self.stack.last() {
                    Some(Value::Dictionary(_)) => Ok(true),
                    _ => Err("the pickle sets the state of an object: refused".to_owned()),
                };
            }
            _ => return Ok(false),
        };
        self.stack.push(value);
        Ok(true)
    }

    /// Instructions that note the top of the stack, or bring a note back.
    fn memory(&mut self, code: u8) -> Result<Handled, String> {
        match code {
            b'q' | b'r' | 0x94 => {
                let number = match code {
                    b'q' => self.number(1)?,
                    b'r' => self.number(4)?,
                    _ => self.notes.len() as u64,
                };
                let cost = self.stack.last().map(weight).ok_or_else(damaged)?;
                self.count(cost)?;
                let top = self.stack.last().cloned().ok_or_else(damaged)?;
                self.notes.insert(number, top);
            }
            b'h' | b'j' => {
                let number = self.number(if code == b'h' { 1 } else { 4 })?;
                let cost = self.notes.get(&number).map(weight).ok_or_else(damaged)?;
                self.count(cost)?;
                let value = self.notes.get(&number).cloned().ok_or_else(damaged)?;
                self.stack.push(value);
            }
            b'0' => {
                self.pop()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The three calls there are.
    fn call(&mut self, called: Value, arguments: Value) -> Result<Value, String> {
        let (Value::Known(called), Value::Tuple(arguments)) = (called, arguments) else {
            return Err("the pickle calls what is no function: refused".to_owned());
        };
        let mut arguments = arguments.into_iter();
        match called {
            Known::Dictionary => match arguments.next() {
                None => Ok(self.dictionary(Vec::new())),
                Some(Value::List(place)) => {
                    self.count(self.lists[place].iter().map(weight).sum())?;
                    let pairs = self.lists[place].clone();
                    let pair = |value: Value| match value {
                        Value::Tuple(pair) => <[Value; 2]>::try_from(pair).ok(),
                        _ => None,
                    };
                    let pairs: Option<Vec<_>> = pairs.into_iter().map(pair).collect();
                    let pairs = pairs.ok_or_else(damaged)?.into_iter();
                    Ok(self.dictionary(pairs.map(|[key, value]| (key, value)).collect()))
                }
                Some(_) => Err(damaged()),
            },
            Known::Parameter => match arguments.next() {
                Some(Value::Tensor(tensor)) => Ok(Value::Tensor(tensor)),
                _ => Err(damaged()),
            },
            Known::Tensor => {
                let next = (arguments.next(), arguments.next(), arguments.next(), arguments.next());
                let (
                    Some(Value::Storage(storage)),
                    Some(Value::Int(offset)),
                    Some(Value::Tuple(shape)),
                    Some(Value::Tuple(strides)),
                ) = next
                else {
                    return Err(damaged());
                };
                let offset = u64::try_from(offset).map_err(|_| damaged())?;
                let (shape, strides) = (sizes(shape)?, sizes(strides)?);
                if shape.len() != strides.len() {
                    return Err(damaged());
                }
                Ok(Value::Tensor(Found { storage, offset, shape, strides }))
            }
            Known::Storage(..) => Err("the pickle calls a storage: refused".to_owned()),
        }
    }

    fn list(&mut self, values: Vec<Value>) -> Value {
        self.lists.push(values);
        Value::List(self.lists.len() - 1)
    }

    fn dictionary(&mut self, entries: Vec<(Value, Value)>) -> Value {
        self.dictionaries.push(entries);
        Value::Dictionary(self.dictionaries.len() - 1)
    }

    fn tuple(&mut self, parts: Vec<Value>) -> Result<Value, String> {
        let value = Value::Tuple(parts);
        self.count(weight(&value))?;
        Ok(value)
    }

    /// Counts what a copy of a value costs before it is made, so that no few bytes can ask for all
    /// memory.
    fn count(&mut self, cost: usize) -> Result<(), String> {
        self.copied += cost;
        match self.copied > COPIED_MOST {
            true => Err("the pickle repeats itself without measure: refused".to_owned()),
            false => Ok(()),
        }
    }

    fn extend_list(&mut self, values: Vec<Value>) -> Result<(), String> {
        let Some(Value::List(place)) = self.stack.last() else { return Err(damaged()) };
        self.lists[*place].extend(values);
        Ok(())
    }

    fn extend_dictionary(&mut self, values: Vec<Value>) -> Result<(), String> {
        let Some(Value::Dictionary(place)) = self.stack.last() else { return Err(damaged()) };
        let mut values = values.into_iter();
        while let Some(key) = values.next() {
            let value = values.next().ok_or_else(damaged)?;
            self.dictionaries[*place].push((key, value));
        }
        Ok(())
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark));
        let mark = mark.ok_or_else(damaged)?;
        let values = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(values)
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(damaged)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| "the pickle is cut short".to_owned())?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of so many bytes.
    fn number(&mut self, count: usize) -> Result<u64, String> {
        let bytes = self.take(count)?;
        Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// A signed little-endian number with its length before it.
    fn long(&mut self) -> Result<i64, String> {
        let count = usize::from(self.byte()?);
        if count > 8 {
            return Err("the pickle has a number of more than 64 bits".to_owned());
        }
        let unused = 64 - 8 * count as u32;
        let value = self.number(count)?;
        // Moved up and back, the number's own sign fills what it lacks.
        Ok(if count == 0 { 0 } else { ((value << unused) as i64) >> unused })
    }

    fn text(&mut self, length: usize) -> Result<Value, String> {
        let count = usize::try_from(self.number(length)?).map_err(|_| damaged())?;
        Ok(Value::Text(String::from_utf8_lossy(self.take(count)?).into_owned()))
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 1;
        Ok(line)
    }
}

/// Whether an instruction was one of those looked for.
type Handled = bool;

fn weight(value: &Value) -> usize {
    match value {
        Value::Tuple(parts) => 1 + parts.iter().map(weight).sum::<usize>(),
        Value::Text(text) => 1 + text.len() / 16,
        Value::Tensor(tensor) => 2 + tensor.shape.len(),
        _ => 1,
    }
}

/// `("storage", type, key, device, values)`: what stands for bytes elsewhere in the file.
fn storage(value: Value) -> Result<Value, String> {
    let Value::Tuple(parts) = value else { return Err(damaged()) };
    match parts.as_slice() {
        [Value::Text(what), Value::Known(Known::Storage(dtype, size)), Value::Text(key), ..]
            if what == "storage" =>
        {
            Ok(Value::Storage(Storage { key: key.clone(), dtype, size: *size }))
        }
        _ => Err(damaged()),
    }
}

fn sizes(values: Vec<Value>) -> Result<Vec<u64>, String> {
    let one = |value: Value| match value {
        Value::Int(n) => u64::try_from(n).map_err(|_| damaged()),
        _ => Err(damaged()),
    };
    values.into_iter().map(one).collect()
}

fn damaged() -> String {
    "the pickle is not one that torch.save writes for weights".to_owned()
}
