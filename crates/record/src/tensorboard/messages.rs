//! The messages of an event file, field numbers as in TensorFlow's event, summary and tensor
//! definitions; only the fields that are written here.

/// One record of the file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// The training step.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// Its content.
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

/// The content of a record.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum What {
    /// First record of a file.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Values.
    #[prost(message, tag = "5")]
    Summary(Summary),
    /// A start: older records of later steps are void.
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// `SessionLog.SessionStatus.START`
pub const SESSION_START: i32 = 1;

/// A change of state of the writer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionLog {
    /// [`SESSION_START`].
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// Values of one step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

/// One value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    /// Its name.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// Which plug-in shows it.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
    /// The value itself.
    #[prost(oneof = "Content", tags = "2, 5, 8")]
    pub content: Option<Content>,
}

/// A number, a distribution or a tensor.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Content {
    /// A number.
    #[prost(float, tag = "2")]
    SimpleValue(f32),
    /// A distribution.
    #[prost(message, tag = "5")]
    Histogram(Histogram),
    /// A tensor; here always of strings.
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

/// Which plug-in shows a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata {
    /// The plug-in.
    #[prost(message, optional, tag = "1")]
    pub plugin: Option<PluginData>,
    /// A name for display.
    #[prost(string, tag = "2")]
    pub display_name: String,
}

/// A plug-in by name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginData {
    /// Such as "text".
    #[prost(string, tag = "1")]
    pub name: String,
    /// The plug-in's own settings.
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
}

/// A distribution in buckets.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Histogram {
    /// Least value.
    #[prost(double, tag = "1")]
    pub min: f64,
    /// Greatest value.
    #[prost(double, tag = "2")]
    pub max: f64,
    /// Number of values.
    #[prost(double, tag = "3")]
    pub count: f64,
    /// Their sum.
    #[prost(double, tag = "4")]
    pub sum: f64,
    /// The sum of their squares.
    #[prost(double, tag = "5")]
    pub sum_squares: f64,
    /// The right end of each bucket.
    #[prost(double, repeated, tag = "6")]
    pub bucket_limits: Vec<f64>,
    /// The number of values in each bucket.
    #[prost(double, repeated, tag = "7")]
    pub buckets: Vec<f64>,
}

/// `DataType.DT_STRING`
pub const TYPE_STRING: i32 = 7;

/// A tensor of strings.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tensor {
    /// [`TYPE_STRING`].
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    /// Its shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
    /// Its values.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub strings: Vec<Vec<u8>>,
}

/// The sizes of a tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShape {
    /// One for each dimension.
    #[prost(message, repeated, tag = "2")]
    pub dimensions: Vec<Dimension>,
}

/// One dimension.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dimension {
    /// Its size.
    #[prost(int64, tag = "1")]
    pub size: i64,
}
