//! Models: untrusted ONNX files with a contract, run on tract.
