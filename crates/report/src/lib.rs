//! Statistics, tables and plots, all read from record.
