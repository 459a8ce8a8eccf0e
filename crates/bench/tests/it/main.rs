//! The parts of the measurement that need no Dromia, as processes: a figure is worth as much as its instruments.

mod instruments;
