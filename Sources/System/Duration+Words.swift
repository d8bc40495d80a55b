extension Duration {
    /// The duration in words, in whole seconds: `1 second`, `30 seconds`.
    public var inSeconds: String {
        let seconds = components.seconds
        return seconds == 1 ? "1 second" : "\(seconds) seconds"
    }
}
