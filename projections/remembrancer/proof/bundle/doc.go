// Package bundle is FILE.proof.tgz: everything that proves one file, in one
// archive that a stranger can check on a machine without VaultMesh and without a
// network. The file itself is not inside.
//
//	manifest.json           what is inside, with sizes and digests
//	FILE.asc, FILE.tsr      OpenPGP signature and RFC 3161 token over the file
//	keys/operator.asc       the operator's OpenPGP key; keys/signer.asc if another signed
//	keys/node.asc           the node's OpenPGP key, certified by the operator's
//	keys/log.vkey           the log's Ed25519 key
//	tsa/chain.pem           certificates of the time-stamping authorities
//	checkpoint              the log's signed head; .asc and .tsr over these bytes
//	checkpoint.cosigned     the same with witnesses' lines
//	events/N.json           canonical events at leaf N
//	proofs/N.tlog-proof     that leaf N is below the checkpoint's root
//	VERIFY.md               the same checks with gpg, openssl and sha256sum
//
// Read takes it for hostile input and writes nothing anywhere. Verify says which
// keys the verdict rests on: what came inside the bundle proves nothing by itself
// until someone compares its fingerprint with one from elsewhere.
package bundle
