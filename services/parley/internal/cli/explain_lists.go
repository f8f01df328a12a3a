package cli

import (
	"slices"
	"strings"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// looseLinks shows what was found about his profiles and does not hold.
func (d *drawing) looseLinks() {
	links, left := d.loose()
	if len(links) == 0 {
		return
	}
	d.line("")
	d.line("Links not in force")
	if left > 0 {
		d.line("  %s", moreText(left, "earlier", d.strokes))
	}
	for _, l := range links {
		mine, other := l.GetProfileId(), l.GetOtherProfileId()
		if d.own[mine] == nil {
			mine, other = other, mine
		}
		ends := d.profile(mine) + " - " + d.profile(other)
		if l.GetOtherCustomerId() != "" {
			ends += " of " + d.customerNamed(l.GetOtherCustomerId())
		}
		d.wrapped(2, ends)
		d.wrapped(4, d.whyNot(l, mine, other))
	}
}

// whyNot says why a link does not hold, and since which evidence.
func (d *drawing) whyNot(l *customerv1.ExplainedLink, mine, other string) string {
	evidence := d.moment(l.GetEvidenceTime())
	if id := l.GetEvidenceEventId(); id != "" {
		evidence += ", evidence " + short(id)
	}
	text := "not in force any more"
	switch {
	case l.GetRefusal() != eventv1.LinkRefusal_LINK_REFUSAL_UNSPECIFIED:
		text = "refused"
		if name := enum(l.GetRefusal().String(), "LINK_REFUSAL_"); name != "" {
			text += ": " + name
		}
	case d.own[mine].GetShared() || d.own[other].GetShared():
		text += ": an identifier is shared"
	}
	if rule := enum(l.GetRule().String(), "LINK_RULE_"); rule != "" {
		text += " (" + rule + ", " + evidence + ")"
	} else {
		text += " (" + evidence + ")"
	}
	if l.GetInForce() {
		text += "; both are his all the same, by other links or a decision"
	}
	if l.GetReason() != "" {
		text += ". " + cutTo(l.GetReason(), maxReasonRunes)
	}
	return text
}

// decisions shows what brought profiles together or apart.
func (d *drawing) decisions() {
	all, left := last(d.graph.GetDecisions(), d.limit)
	if len(all) == 0 {
		return
	}
	d.line("")
	d.line("Decisions, the newest last")
	if left > 0 {
		d.line("  %s", moreText(left, "earlier", d.strokes))
	}
	byLink := false
	for _, x := range all {
		text := d.moment(x.GetTime()) + " " + d.what(x)
		if !aboutSharing(x) { // that says itself what brought it about
			text += ", by " + d.who(x)
		}
		if x.GetReason() != "" {
			text += ": " + cutTo(x.GetReason(), maxReasonRunes)
		}
		undo := d.undoing(x)
		if undo != "" && !decided(x) {
			// Links merge all the time: the event says enough.
			text += " (event " + x.GetEventId() + ")"
			undo, byLink = "", true
		}
		d.wrapped(2, text)
		if undo != "" {
			d.line("    undo: %s", undo)
		}
	}
	if byLink {
		d.line("  undo a merge by links: %s", d.command("customer", "split", d.graph.GetCustomerId(), "--undo", "EVENT", "--reason", undoReason))
	}
}

func aboutSharing(x *customerv1.IdentityDecision) bool {
	return x.GetAction() == customerv1.IdentityAction_IDENTITY_ACTION_SHARED || x.GetAction() == customerv1.IdentityAction_IDENTITY_ACTION_UNSHARED
}

func decided(x *customerv1.IdentityDecision) bool {
	return x.GetRule() == eventv1.GroupingRule_GROUPING_RULE_DECIDED
}

// what was done.
func (d *drawing) what(x *customerv1.IdentityDecision) string {
	n := plural(int64(len(x.GetProfileIds())), "profile", "profiles")
	switch x.GetAction() {
	case customerv1.IdentityAction_IDENTITY_ACTION_MERGED:
		return "merged " + d.side(x.GetOtherCustomerId()) + " (" + n + ") into " + d.side(x.GetCustomerId())
	case customerv1.IdentityAction_IDENTITY_ACTION_SPLIT:
		return "split " + d.side(x.GetOtherCustomerId()) + " (" + n + ") off " + d.side(x.GetCustomerId())
	case customerv1.IdentityAction_IDENTITY_ACTION_SHARED:
		return d.firstProfile(x) + " is shared from here on"
	case customerv1.IdentityAction_IDENTITY_ACTION_UNSHARED:
		return d.firstProfile(x) + " is not shared any more"
	case customerv1.IdentityAction_IDENTITY_ACTION_UNSPECIFIED:
	}
	return "changed " + n
}

func (d *drawing) firstProfile(x *customerv1.IdentityDecision) string {
	if len(x.GetProfileIds()) == 0 {
		return "a profile"
	}
	return d.profile(x.GetProfileIds()[0])
}

// side is one of the two customers of a decision: by the identifier that he is
// or was named by where that is this customer's, else by name.
func (d *drawing) side(id string) string {
	if d.own[id] != nil {
		return d.profile(id)
	}
	if name := d.names[id]; name != "" {
		return cell(name)
	}
	return or(short(id))
}

// who decided: somebody, or the evidence.
func (d *drawing) who(x *customerv1.IdentityDecision) string {
	evidence := ""
	if id := x.GetEvidenceEventId(); id != "" {
		evidence = " " + short(id)
	}
	switch x.GetRule() {
	case eventv1.GroupingRule_GROUPING_RULE_LINKED:
		return "link" + evidence
	case eventv1.GroupingRule_GROUPING_RULE_LATE_EVIDENCE:
		return "late evidence" + evidence
	case eventv1.GroupingRule_GROUPING_RULE_SHARED:
		return "a shared identifier"
	case eventv1.GroupingRule_GROUPING_RULE_UNSPECIFIED, eventv1.GroupingRule_GROUPING_RULE_DECIDED:
	}
	return actorName(x.GetActor())
}

// actorName is somebody for people.
func actorName(a *eventv1.Actor) string {
	name := strings.TrimSpace(enum(a.GetKind().String(), "ACTOR_KIND_") + " " + cell(a.GetId()))
	if name == "" {
		return "somebody"
	}
	return name
}

// undoing is the command that takes a decision back; empty where it is taken
// back already, or where nothing does.
func (d *drawing) undoing(x *customerv1.IdentityDecision) string {
	switch x.GetAction() {
	case customerv1.IdentityAction_IDENTITY_ACTION_MERGED:
		if slices.ContainsFunc(x.GetProfileIds(), func(id string) bool { return d.own[id] != nil }) && d.own[x.GetCustomerId()] != nil {
			return d.command("customer", "split", d.graph.GetCustomerId(), "--undo", x.GetEventId(), "--reason", undoReason)
		}
	case customerv1.IdentityAction_IDENTITY_ACTION_SPLIT:
		// What evidence split, better evidence joins again by itself.
		if decided(x) && (d.own[x.GetCustomerId()] == nil) != (d.own[x.GetOtherCustomerId()] == nil) {
			return d.command("customer", "merge", x.GetCustomerId(), x.GetOtherCustomerId(), "--reason", undoReason)
		}
	case customerv1.IdentityAction_IDENTITY_ACTION_UNSPECIFIED, customerv1.IdentityAction_IDENTITY_ACTION_SHARED,
		customerv1.IdentityAction_IDENTITY_ACTION_UNSHARED:
	}
	return ""
}

// claims say what others did in the customer's name.
func (p *page) claims(all []*customerv1.CustomerClaim) {
	if len(all) == 0 {
		return
	}
	p.line("")
	p.line("Claims")
	for _, c := range all[:min(len(all), shownEach)] {
		p.line("  Somebody who failed the check %s %s: %s, last %s; parley customer get --id %s", claimVerb(c.GetKind()), cell(c.GetValue()),
			plural(c.GetInteractionCount(), "interaction", "interactions"), p.moment(c.GetLastSeenTime()), c.GetCustomerId())
	}
	if n := len(all) - shownEach; n > 0 {
		p.line("  and %d more; `parley customer explain -o json` has all", n)
	}
}

func claimVerb(kind string) string {
	switch kind {
	case "email":
		return "wrote as"
	case "phone":
		return "called as"
	default:
		return "came as " + strings.ReplaceAll(kind, "_", " ")
	}
}
