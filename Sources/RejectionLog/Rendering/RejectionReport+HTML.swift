public import Foundation
import Mustache

extension RejectionReport {
    /// The report as one HTML file that needs nothing else: no script, no outside resource; light or dark as its reader
    /// likes, fit for a phone and for paper.
    ///
    /// - Parameters:
    ///   - host: the gateway's name, for the heading.
    ///   - timeZone: the zone of the times shown.
    ///   - now: when it was made.
    public func html(host: String, timeZone: TimeZone = .current, now: Date = Date()) throws -> String {
        MustacheContentTypes.register(HTMLText(), named: HTMLText.name)
        let template = try MustacheTemplate(string: ReportPage.template)
        return template.render(ReportPage(report: self, zone: timeZone).content(host: host, now: now))
    }
}
