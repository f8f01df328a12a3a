// Package match suggests which customers may be the same person: probabilistic
// record linkage over names, birth dates, addresses and identifiers that do
// not agree exactly. It only suggests; what a suggestion leads to is decided
// elsewhere.
//
// # Contract
//
// [Fit] learns a [Model] from the records themselves, without any known pairs.
// [Model.Score] says how likely two records are of one person, and why.
// [Candidates] finds the pairs above a threshold among all records without
// comparing each with each; [BlockingKeys] are what an index needs to find the
// candidates for one record.
//
// The theory is that of Fellegi and Sunter, A Theory for Record Linkage (JASA
// 1969): each field of two records agrees to some level, and a level weighs
// log2(m/u), where m is its probability among pairs of one person and u among
// all others. m comes by expectation-maximisation over pairs that share a
// blocking key, the fields of the key left out (Winkler 1988; Jaro, JASA 1989;
// Linacre et al., Splink, IJPDS 2022), u from random pairs. A value that many
// records have weighs less than a rare one (Winkler 1989).
//
// Two guards keep evidence that belongs together from counting as if it were
// independent. A third class beside "same person" and "strangers" stands for
// people who share a household: they share family name, address, phone and
// perhaps e-mail, but neither given name nor birth date; where no record has
// any of these two or a national id, no pair is more probable than 2/3. And
// e-mail addresses that are merely alike say nothing where they are built from
// the name, which has been counted.
//
// # Invariants
//
//   - Score is symmetric, finite, and a pure function of the model and the two
//     records. A better level never weighs less than a worse one of its field,
//     where the values are as frequent.
//   - A model depends on the records, the options and the seed only, bit for
//     bit; not on the order of the records, nor on the number of workers.
//   - A model holds no value of a record: of frequent ones a hash and a count.
//   - Candidates scores a pair once, whatever number of blocks it shares.
//   - Time and memory are bounded for any input: values are cut at 64 bytes,
//     lists at eight values, blocks at [Options.MaxBlock] records.
//
// # Crash behaviour
//
// Nothing is written; what a crash interrupts starts anew.
package match
