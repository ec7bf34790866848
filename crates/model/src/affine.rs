//! The two layers of the BERT and BART families that have a weight and a bias: LayerNorm and the
//! linear one.

use heldout_kernels::{Activation, Layout, Norm, Pass, Role, Var, Weight};

use crate::ModelConfig;

#[derive(Clone, Copy)]
pub struct LayerNorm {
    pub gain: Weight,
    pub bias: Weight,
}

#[derive(Clone, Copy)]
pub struct Linear {
    pub weight: Weight, // [out, in]
    pub bias: Weight,
}

pub fn push_norm(layout: &mut Layout, name: &str, width: usize) -> LayerNorm {
    LayerNorm {
        gain: layout.push(format!("{name}.weight"), &[width], Role::Gain),
        bias: layout.push(format!("{name}.bias"), &[width], Role::Bias),
    }
}

pub fn push_linear(layout: &mut Layout, name: &str, out: usize, input: usize) -> Linear {
    Linear {
        weight: layout.push(format!("{name}.weight"), &[out, input], Role::Matrix),
        bias: layout.push(format!("{name}.bias"), &[out], Role::Bias),
    }
}

pub fn layer_norm(pass: &mut Pass, x: Var, norm: LayerNorm, config: &ModelConfig) -> Var {
    pass.norm_wide(x, Norm::Layer, norm.gain, Some(norm.bias), config.norm_epsilon)
}

pub fn linear(pass: &mut Pass, x: Var, linear: Linear) -> Var {
    pass.linear(x, linear.weight, Some(linear.bias), Activation::None, None)
}
