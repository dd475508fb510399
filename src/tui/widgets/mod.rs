//! What several views draw with: the canvas and its colours, rows, bars, lanes, stacks, and the two
//! forms of a call tree.

pub mod bars;
pub mod call_tree;
pub mod canvas;
pub mod cursor;
pub mod flame_graph;
pub mod lane;
pub mod row;
pub mod stack;
pub mod theme;
