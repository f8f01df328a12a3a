package pgview

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/parleyhq/parley/pkg/view"
)

// maxIdentifier is how many bytes of a name Postgres keeps.
const maxIdentifier = 63

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// names gives out the names within one Postgres schema, each once. Asked for
// the same in the same order it gives the same.
type names map[string]bool

// take gives the name that is wanted, or one that begins alike where that is
// too long or taken.
func (n names) take(want string) string {
	name := want
	for i := 0; len(name) > maxIdentifier || n[name]; i++ {
		name = shortened(fmt.Sprintf("%s %d", want, i), want, maxIdentifier)
	}
	n[name] = true
	return name
}

// shortened is want cut to leave room for a hash of what it stands for.
func shortened(of, want string, most int) string {
	sum := sha256.Sum256([]byte(of))
	hash := "_" + hex.EncodeToString(sum[:4])
	return want[:min(len(want), most-len(hash))] + hash
}

// schemaName is the Postgres schema of a generation: parley_customer_v2_g1.
// Again says that the namespace was used before, by a generation that was
// dropped: whoever still has that one open must not find this one's tables.
func schemaName(prefix string, ns view.Namespace, number int64, again bool) string {
	name := fmt.Sprintf("%s_%s_v%d_g%d", prefix, ns.Projection, ns.Version, ns.Generation)
	if again {
		name = fmt.Sprintf("%s_n%d", name, number)
	}
	if len(name) > maxIdentifier {
		name = shortened(name, name, maxIdentifier)
	}
	return name
}
