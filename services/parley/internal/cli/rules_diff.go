package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

var errNoRules = errors.New("there are no rules in it")

// singleRule is a rule with one value.
type singleRule struct{ name, value string }

// singleRules are the rules that are no lists, in the order of pages.
func singleRules(r *eventv1.IdentityRules) []singleRule {
	link := "never"
	if p := r.GetLinkProbability(); p != 0 {
		link = strconv.FormatFloat(p, 'g', -1, 64)
	}
	return []singleRule{
		{"region of phone numbers without a country code", or(r.GetDefaultRegion())},
		{"profiles of one customer, at most", strconv.Itoa(int(r.GetMaxCustomerProfiles()))},
		{"linked without being asked from a probability of", link},
	}
}

// rulesDiff says what changes, a line each: + for what is added, - for what is
// taken out. The order of lists and repetitions in them mean nothing.
func rulesDiff(before, after *eventv1.IdentityRules) []string {
	var out []string
	now := singleRules(after)
	for i, was := range singleRules(before) {
		if now[i].value != was.value {
			out = append(out, fmt.Sprintf("%s: %s, was %s", was.name, now[i].value, was.value))
		}
	}
	out = append(out, kindsDiff(kindRules(before), kindRules(after))...)
	out = append(out, listDiff("role", before.GetSharedLocalParts(), after.GetSharedLocalParts(), func(s string) string { return s + "@" })...)
	return append(out, listDiff("blocked", blockedOf(before), blockedOf(after), func(n customerName) string { return n.kind + ":" + n.value })...)
}

// kindRules are the rules by kind, the one of every other kind under "". Of
// two of one kind the later counts, as it does for the server.
func kindRules(r *eventv1.IdentityRules) map[string]*eventv1.KindRule {
	m := make(map[string]*eventv1.KindRule, len(r.GetKinds())+1)
	for _, k := range r.GetKinds() {
		m[k.GetKind()] = k
	}
	if r.GetOtherKinds() != nil {
		m[""] = r.GetOtherKinds()
	}
	return m
}

func kindsDiff(before, after map[string]*eventv1.KindRule) []string {
	var names []string
	for _, m := range []map[string]*eventv1.KindRule{before, after} {
		for name := range m {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []string
	for _, name := range slices.Compact(names) {
		was, now := before[name], after[name]
		switch {
		case was == nil:
			out = append(out, "+ kind "+kindName(name)+": "+strings.Join(kindTexts(now), ", "))
		case now == nil:
			out = append(out, "- kind "+kindName(name)+": it is as every other")
		default:
			var parts []string
			wasTexts := kindTexts(was)
			for i, text := range kindTexts(now) {
				if text != wasTexts[i] {
					parts = append(parts, text+", was "+lastField(wasTexts[i]))
				}
			}
			if len(parts) > 0 {
				out = append(out, "kind "+kindName(name)+": "+strings.Join(parts, "; "))
			}
		}
	}
	return out
}

// kindTexts are the parts of a kind's rule, each a name and a value.
func kindTexts(k *eventv1.KindRule) []string {
	return []string{
		"strength " + or(enum(k.GetStrength().String(), "IDENTIFIER_STRENGTH_")),
		fmt.Sprintf("rank %d", k.GetRank()),
		fmt.Sprintf("limit %d", k.GetLimit()),
		fmt.Sprintf("shared above %d", k.GetSharedAbove()),
	}
}

func lastField(s string) string { return s[strings.LastIndexByte(s, ' ')+1:] }

func blockedOf(r *eventv1.IdentityRules) []customerName {
	out := make([]customerName, len(r.GetBlocked()))
	for i, b := range r.GetBlocked() {
		out[i] = customerName{kind: b.GetKind(), value: b.GetValue()}
	}
	return out
}

// listDiff is what was added to a list and what was taken out.
func listDiff[T comparable](what string, before, after []T, text func(T) string) []string {
	had, has := make(map[T]bool, len(before)), make(map[T]bool, len(after))
	for _, v := range before {
		had[v] = true
	}
	for _, v := range after {
		has[v] = true
	}
	var out []string
	for _, v := range after {
		if !had[v] {
			had[v] = true // said once
			out = append(out, "+ "+what+" "+text(v))
		}
	}
	for _, v := range before {
		if !has[v] {
			has[v] = true
			out = append(out, "- "+what+" "+text(v))
		}
	}
	return out
}

// changes shows what a change of the rules does.
func (p *page) changes(all []string) {
	const most = 50
	p.line("What changes:")
	for _, c := range all[:min(len(all), most)] {
		p.line("  %s", cutTo(c, maxCell+maxValueRunes))
	}
	if n := len(all) - most; n > 0 {
		p.line("  … and %d more", n)
	}
}
