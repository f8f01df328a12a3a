package postgres

import "strconv"

// SharedCluster is the folder of the cluster that Database uses, and the
// process that looks after it; nothing where the server is not ours.
func SharedCluster() (folder, supervisor string, err error) {
	s, err := sharedServer()
	if err != nil || s.cluster == nil {
		return "", "", err
	}
	return s.cluster.sup.folder, strconv.Itoa(s.cluster.sup.cmd.Process.Pid), nil
}

// Folder is where a cluster lives.
func (c *Cluster) Folder() string { return c.sup.folder }

// Sweep is what every start of a cluster does first.
func Sweep() error {
	a, err := serverAccount()
	if err != nil {
		return err
	}
	parent, err := a.temporaryFolder()
	if err != nil {
		return err
	}
	sweep(parent, a)
	return nil
}
