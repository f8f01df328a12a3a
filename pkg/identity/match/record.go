package match

import (
	"context"
	"fmt"
	"iter"
)

// Record is what is known of one customer. Every field but the id may be
// empty; values are taken as people and systems write them, in UTF-8 or not.
type Record struct {
	// ID names the customer; no two records of a source have the same.
	ID string
	// Given is one or several given names, Family the family name. They may
	// have been entered the wrong way round.
	Given, Family string
	// FullName is read where Given and Family are both empty: `Family, Given`
	// or the family name last.
	FullName string
	// BirthDate is YYYY-MM-DD or YYYYMMDD; a time behind it is ignored. A date
	// that does not exist counts as a typing error, not as missing.
	BirthDate string
	// Number is the house number; where it is empty, one at either end of
	// Street is read. Country counts as a code of ISO 3166-1 alpha-2 only.
	Street, Number, Postcode, City, State, Country string
	// Emails are addresses, also misspelt ones.
	Emails []string
	// Phones are numbers in E.164.
	Phones []string
	// NationalIDs are numbers of documents, optionally as `type:number`;
	// numbers of different types are not compared.
	NationalIDs []string
}

// Source gives all records, at each call again, in any order. A record is only
// read until the next one is asked for. After an error it ends.
type Source func(ctx context.Context) iter.Seq2[*Record, error]

// FromSlice is a source over records that are in memory.
func FromSlice(records []Record) Source {
	return func(context.Context) iter.Seq2[*Record, error] {
		return func(yield func(*Record, error) bool) {
			for i := range records {
				if !yield(&records[i], nil) {
					return
				}
			}
		}
	}
}

// DuplicateIDError says that a source gave two records with the same id.
type DuplicateIDError struct {
	ID string
}

func (e *DuplicateIDError) Error() string { return fmt.Sprintf("two records with the id %q", e.ID) }

// TooFewError says that there are not enough records to learn anything from.
type TooFewError struct {
	// Records is how many there are; at least two are needed.
	Records int
}

func (e *TooFewError) Error() string {
	return fmt.Sprintf("a model needs two records at least, there are %d", e.Records)
}

// Field is one comparison of two records.
type Field uint8

// The fields. Those that a household may share come last but for NationalID.
const (
	FieldGiven Field = iota
	FieldFamily
	FieldBirthDate
	FieldNationalID
	// FieldPlace is postcode, city and state in one: each implies the next.
	FieldPlace
	// FieldStreet is street and house number.
	FieldStreet
	FieldPhone
	FieldEmail
	// FieldHousehold is no comparison: in reasons it stands for what the
	// shared fields weigh less because a household shares them too.
	FieldHousehold

	numFields = int(FieldHousehold)
)

var fieldNames = [...]string{"given", "family", "birth_date", "national_id", "place", "street", "phone", "email", "household"}

func (f Field) String() string {
	if int(f) < len(fieldNames) {
		return fieldNames[f]
	}
	return fmt.Sprintf("field %d", uint8(f))
}

// Level is how far a field of two records agrees. What each means depends on
// the field.
type Level uint8

// The levels.
const (
	// LevelMissing: one of the two has no value. It weighs nothing.
	LevelMissing Level = iota
	// LevelExact: the same value. Of a place: the postcode; of a street: the
	// house number too.
	LevelExact
	// LevelClose: a typing error apart. Of a phone also: the same last eight
	// digits.
	LevelClose
	// LevelVariant: of a name: a short form, an initial, or one of several
	// names.
	LevelVariant
	// LevelSwapped: given and family name, or day and month, the wrong way
	// round.
	LevelSwapped
	// LevelPartial: two parts of a date; the city of a place; a street without
	// a number; the local part of an e-mail address.
	LevelPartial
	// LevelSimilar: alike. Of a date: the year; of a street: another number.
	LevelSimilar
	// LevelRegion: of a place: the state only.
	LevelRegion
	// LevelDifferent: none of the above.
	LevelDifferent

	numLevels = int(LevelDifferent) + 1
)

var levelNames = [...]string{"missing", "exact", "close", "variant", "swapped", "partial", "similar", "region", "different"}

func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level %d", uint8(l))
}

// spec says of a field which levels it has.
type spec struct {
	// chain goes from the best level to the worst: weights fall along it.
	chain []Level
	// side levels lie somewhere between the first and the last of the chain.
	side []Level
	// household: people who live together may share it.
	household bool
	// mostDiffer bounds m of LevelDifferent: how many pairs of one person may
	// differ in it.
	mostDiffer float64
}

// Names and birth dates are misspelt or, at times, changed; addresses,
// numbers and e-mail addresses are given up, and a duplicate often is there
// because they were.
const (
	rarelyDiffers = 0.4
	oftenDiffers  = 0.8
)

var specs = [numFields]spec{
	FieldGiven:      {chain: []Level{LevelExact, LevelClose, LevelSimilar, LevelDifferent}, side: []Level{LevelVariant, LevelSwapped}, mostDiffer: rarelyDiffers},
	FieldFamily:     {chain: []Level{LevelExact, LevelClose, LevelSimilar, LevelDifferent}, side: []Level{LevelVariant, LevelSwapped}, household: true, mostDiffer: rarelyDiffers},
	FieldBirthDate:  {chain: []Level{LevelExact, LevelClose, LevelPartial, LevelSimilar, LevelDifferent}, side: []Level{LevelSwapped}, mostDiffer: rarelyDiffers},
	FieldNationalID: {chain: []Level{LevelExact, LevelClose, LevelDifferent}, mostDiffer: rarelyDiffers},
	FieldPlace:      {chain: []Level{LevelExact, LevelPartial, LevelSimilar, LevelRegion, LevelDifferent}, household: true, mostDiffer: oftenDiffers},
	FieldStreet:     {chain: []Level{LevelExact, LevelClose, LevelPartial, LevelSimilar, LevelDifferent}, household: true, mostDiffer: oftenDiffers},
	FieldPhone:      {chain: []Level{LevelExact, LevelClose, LevelDifferent}, household: true, mostDiffer: oftenDiffers},
	FieldEmail:      {chain: []Level{LevelExact, LevelClose, LevelPartial, LevelSimilar, LevelDifferent}, household: true, mostDiffer: oftenDiffers},
}

func (s *spec) levels() []Level {
	all := make([]Level, 0, len(s.chain)+len(s.side))
	return append(append(all, s.chain...), s.side...)
}
