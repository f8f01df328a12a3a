package match

import (
	"fmt"

	linkage "github.com/parleyhq/parley/pkg/identity/match"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// modelToProto is a model as its event has it.
func modelToProto(m *linkage.Model) *eventv1.MatchModel {
	p := &eventv1.MatchModel{Version: m.Version, Records: m.Records, Sampled: m.Sampled, Prior: m.Prior, Household: m.Household}
	for i := range m.Fields {
		f := &eventv1.MatchField{Field: m.Fields[i].Field.String()}
		for _, l := range m.Fields[i].Levels {
			f.Levels = append(f.Levels, &eventv1.MatchLevel{Level: l.Level.String(), M: l.M, U: l.U, Weight: l.Weight})
		}
		p.Fields = append(p.Fields, f)
	}
	for i := range m.Terms {
		t := &eventv1.MatchTerms{Term: m.Terms[i].Term.String(), Agreement: m.Terms[i].Agreement, Rest: m.Terms[i].Rest}
		for _, v := range m.Terms[i].Values {
			t.Hashes, t.Frequencies = append(t.Hashes, v.Hash), append(t.Frequencies, v.Frequency)
		}
		p.Terms = append(p.Terms, t)
	}
	for _, r := range m.Rules {
		p.Rules = append(p.Rules, &eventv1.MatchRule{Rule: r.Rule.String(), Pairs: r.Pairs, Matches: r.Matches})
	}
	return p
}

// modelFromProto reads a model back. One that this version cannot score with
// is a *linkage.InvalidModelError; nothing of it is used then.
func modelFromProto(p *eventv1.MatchModel) (*linkage.Model, error) {
	invalid := func(format string, args ...any) (*linkage.Model, error) {
		return nil, &linkage.InvalidModelError{Reason: fmt.Sprintf(format, args...)}
	}
	if p.GetVersion() != linkage.ModelVersion {
		return invalid("version %d, this is %d", p.GetVersion(), linkage.ModelVersion)
	}
	m := &linkage.Model{Version: p.GetVersion(), Records: p.GetRecords(), Sampled: p.GetSampled(), Prior: p.GetPrior(), Household: p.GetHousehold()}
	for _, pf := range p.GetFields() {
		field, ok := fieldNames[pf.GetField()]
		if !ok {
			return invalid("unknown field %.64q", pf.GetField())
		}
		f := linkage.FieldModel{Field: field}
		for _, pl := range pf.GetLevels() {
			level, ok := levelNames[pl.GetLevel()]
			if !ok {
				return invalid("%s: unknown level %.64q", field, pl.GetLevel())
			}
			f.Levels = append(f.Levels, linkage.LevelModel{Level: level, M: pl.GetM(), U: pl.GetU(), Weight: pl.GetWeight()})
		}
		m.Fields = append(m.Fields, f)
	}
	for _, pt := range p.GetTerms() {
		term, ok := termNames[pt.GetTerm()]
		if !ok || len(pt.GetHashes()) != len(pt.GetFrequencies()) {
			return invalid("term %.64q: unknown, or %d hashes with %d frequencies", pt.GetTerm(), len(pt.GetHashes()), len(pt.GetFrequencies()))
		}
		t := linkage.TermTable{Term: term, Agreement: pt.GetAgreement(), Rest: pt.GetRest()}
		for i, hash := range pt.GetHashes() {
			t.Values = append(t.Values, linkage.TermFrequency{Hash: hash, Frequency: pt.GetFrequencies()[i]})
		}
		m.Terms = append(m.Terms, t)
	}
	for _, pr := range p.GetRules() {
		rule, ok := ruleNames[pr.GetRule()]
		if !ok {
			return invalid("unknown rule %.64q", pr.GetRule())
		}
		m.Rules = append(m.Rules, linkage.RuleModel{Rule: rule, Pairs: pr.GetPairs(), Matches: pr.GetMatches()})
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

// The names of what a model is about, as its event has them.
var (
	fieldNames = named(linkage.FieldGiven, linkage.FieldEmail)
	levelNames = named(linkage.LevelExact, linkage.LevelDifferent)
	termNames  = named(linkage.TermGiven, linkage.TermEmail)
	ruleNames  = named(linkage.RuleNationalID, linkage.RuleNameCity)
)

func named[T interface {
	~uint8
	String() string
}](first, last T) map[string]T {
	names := map[string]T{}
	for v := first; v <= last; v++ {
		names[v.String()] = v
	}
	return names
}
