// Package config fills a plain struct from flags, the environment and a file.
//
// Contract: each field with a `flag` tag is a setting with one name in three
// spellings: `--grpc-listen` as a flag, `PARLEY_GRPC_LISTEN` in the environment,
// `grpc-listen:` in the YAML file. All three take the same text and give the same value. A
// flag wins over the environment, that over the file, that over what the
// struct held before: its defaults. A setting that is named but cannot be
// read is an error that says where it stands (flag, variable, or file and
// line) and what it wants; an unknown key of the file is one too. Variables
// that name no setting are left alone, since container platforms make some up.
//
// Lists of structs have a text form for flags and the environment:
// `name=shop,tenant=acme,scopes=record+read`, several of them split by `;`.
//
// Settings of type Secret print as `***` wherever they turn up.
//
// The package keeps no state, so a crash concerns it in no way.
package config
