package blob_test

// Of secret, tenant acme, and in the end the SHA-256 of the object of random(1, 200_000).
const (
	goldenEmptyRef    = "blob1.149ed662d6854d1844b3298713d5feaa4e4d2fc1.YmKHhjZ06uWRihrtNpaKY5CRtsWiirgi3T3s5Wb3Fks"
	goldenEmptyObject = "2000000080000000000000000000000097e292211d329fb7d3e40a812f1324a5a6"
	goldenRef         = "blob1.7d0f3adc7ab1558c3be34cbacafb2b463c8b686b.wA6LCBmmE9EGmM2hONv7sMnBeW4Ftlvn56QXYM1JfHk"
	goldenObject      = "20000a008000000000000000000000004f6e607fb5f5e8795f59ceaefb7e81edfae1c39ba37d1180083897"
	goldenLargeObject = "a073361de0ef278e636c4b10fee468a718c913ad5bd4e07cbc86dfb9ef78eb4f"
)
