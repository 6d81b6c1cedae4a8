"""Networks of steps: pasta, slirp4netns and CNI, each in a namespace of the step's own."""
