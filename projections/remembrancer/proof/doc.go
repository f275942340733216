// Package proof is the evidence of the ledger, as pure functions: what a signed
// checkpoint, an inclusion or consistency proof and a receipt say, and whether
// that is true. It needs no node, no disk and no clock, so that anyone can import
// it to check what VaultMesh handed out.
//
// The formats are public ones where there is one: checkpoints are C2SP
// tlog-checkpoint notes, cosignatures C2SP tlog-cosignature, proofs of one event
// C2SP tlog-proof, hashes RFC 6962 section 2.1. Receipts are our own signed
// notes; see [ReceiptBatch]. Every parser here takes hostile input: it has a size
// cap and accepts one spelling of each value, so that equal meaning is equal bytes.
package proof
